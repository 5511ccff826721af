//! Coming back from the records, and records that cannot be stored.

use crate::harness::check;

#[test]
fn a_stable_group_survives_a_crash() {
    check(
        "
        > join 1 client=a v=3 protocols=range/A,sticky
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 client=b instance=i v=5 protocols=range/B
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/A,i-2@i/B
        2: joined generation=1 protocol=range leader=a-1 member=i-2
        > sync 3 a-1 assign=a-1:X,i-2:Y
        record g generation=1 protocol=range leader=a-1 members=a-1=X,i-2=Y
        parked
        3: synced protocol=range assignment=X
        > commit a-1 t-0:5
        record t-0 at 5
        t-0=committed
        > crash
        > describe
        Stable type=consumer protocol=range
        a-1 a/127.0.0.1 metadata=A assignment=X
        i-2@i b/127.0.0.1 metadata=B assignment=Y
        > heartbeat a-1
        alive
        > fetch
        t-0 at 5 epoch=3
        > sync 4 i-2 instance=i
        4: synced protocol=range assignment=Y
        > advance 10000
        record g generation=2 protocol=- leader=- members=
        > describe
        Empty type=consumer protocol=
        ",
    );
}

#[test]
fn a_rebalance_in_progress_is_forgotten_by_a_crash() {
    check(
        "
        > join 1 client=a v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/
        > sync 2 a-1 assign=a-1:X
        record g generation=1 protocol=range leader=a-1 members=a-1=X
        parked
        2: synced protocol=range assignment=X
        > join 3 client=b v=3
        parked
        > join 4 member=a-1
        4: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/,b-3/
        3: joined generation=2 protocol=range leader=a-1 member=b-3
        parked
        > crash
        > describe
        Stable type=consumer protocol=range
        a-1 a/127.0.0.1 metadata= assignment=X
        > heartbeat b-3 generation=2
        UNKNOWN_MEMBER_ID
        > heartbeat a-1 generation=2
        ILLEGAL_GENERATION
        > heartbeat a-1 generation=1
        alive
        ",
    );
}

#[test]
fn an_empty_group_survives_a_crash() {
    check(
        "
        > join 1 client=a v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > crash
        > list
        g Empty type=
        > join 2 member=a-1
        2: UNKNOWN_MEMBER_ID member=a-1
        > join 3 client=a v=3
        parked
        > advance 3000
        3: joined generation=1 protocol=range leader=a-3 member=a-3 members=a-3/
        > leave a-3
        record g generation=2 protocol=- leader=- members=
        a-3=left
        > crash
        > describe
        Empty type=consumer protocol=
        > join 4 v=3 client=a
        parked
        > advance 3000
        4: joined generation=3 protocol=range leader=a-4 member=a-4 members=a-4/
        ",
    );
}

#[test]
fn a_lowered_limit_makes_a_loaded_group_rejoin() {
    check(
        "
        > join 1 client=a v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 client=b v=3
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 a-1
        record g generation=1 protocol=range leader=a-1 members=a-1=,b-2=
        parked
        3: synced protocol=range assignment=
        > settings max-size=1
        > crash
        > describe
        PreparingRebalance type=consumer protocol=
        a-1 a/127.0.0.1 metadata= assignment=
        b-2 b/127.0.0.1 metadata= assignment=
        > join 4 member=b-2
        parked
        > join 5 member=a-1
        5: GROUP_MAX_SIZE_REACHED member=
        > advance 60000
        4: joined generation=2 protocol=range leader=b-2 member=b-2 members=b-2/
        ",
    );
}

#[test]
fn an_assignment_that_is_not_stored_starts_over() {
    check(
        "
        > join 1 client=a v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 client=b v=3
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 b-2
        parked
        > hold
        > sync 4 a-1 assign=a-1:X
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-2=
        parked
        > failed
        4: COORDINATOR_NOT_AVAILABLE
        3: COORDINATOR_NOT_AVAILABLE
        > heartbeat a-1
        REBALANCE_IN_PROGRESS
        > join 5 member=a-1
        parked
        > join 6 member=b-2
        5: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        6: joined generation=2 protocol=range leader=a-1 member=b-2
        parked
        > sync 7 a-1 generation=2 assign=a-1:Z
        record g generation=2 protocol=range leader=a-1 members=a-1=Z,b-2=
        parked
        7: synced protocol=range assignment=Z
        ",
    );
}

#[test]
fn an_assignment_stored_after_the_group_moved_on_is_not_handed_out() {
    check(
        "
        > join 1 client=a v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 client=b v=3
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > hold
        > sync 3 a-1 assign=a-1:X,b-2:Y
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-2=Y
        parked
        > leave b-2
        3: REBALANCE_IN_PROGRESS
        b-2=left
        > join 4 member=a-1
        4: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/
        parked
        > stored
        > describe
        CompletingRebalance type=consumer protocol=
        a-1 a/127.0.0.1 metadata= assignment=
        ",
    );
}

#[test]
fn a_group_whose_creation_is_not_stored_does_not_exist() {
    check(
        "
        > full
        > join 1 client=a v=3
        not appended: record g generation=0 protocol=- leader=- members=
        parked
        1: COORDINATOR_NOT_AVAILABLE member=
        > list
        > join 2 client=a
        not appended: record g generation=0 protocol=- leader=- members=
        append failed
        > list
        ",
    );
}

#[test]
fn giving_the_partition_up_answers_everybody() {
    check(
        "
        > join 1 client=a v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 client=b v=3
        parked
        > unload
        1: NOT_COORDINATOR member=a-1
        2: NOT_COORDINATOR member=b-2
        ",
    );
}
