//! Members with a group instance id (KIP-345, KIP-814).

use crate::harness::check;

#[test]
fn a_restart_within_the_session_needs_no_rebalance() {
    check(
        "
        > join 1 client=a instance=i protocols=range/A
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 client=b instance=j
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/A,j-2@j/
        2: joined generation=1 protocol=range leader=i-1 member=j-2
        > sync 3 i-1 instance=i assign=i-1:X,j-2:Y
        record g generation=1 protocol=range leader=i-1 members=i-1=X,j-2=Y
        parked
        3: synced protocol=range assignment=X
        > sync 4 j-2 instance=j
        4: synced protocol=range assignment=Y
        > join 5 instance=i protocols=range/A2
        record g generation=1 protocol=range leader=i-5 members=i-5=X,j-2=Y
        parked
        5: joined generation=1 protocol=range leader=i-5 member=i-5 members=i-5@i/A2,j-2@j/ skip-assignment
        > heartbeat i-1 instance=i
        FENCED_INSTANCE_ID
        > heartbeat i-5 instance=i
        alive
        > sync 6 i-5 instance=i
        6: synced protocol=range assignment=X
        > join 7 v=8 instance=i
        record g generation=1 protocol=range leader=i-7 members=i-7=X,j-2=Y
        parked
        7: joined generation=1 protocol=range leader=i-5 member=i-7
        > join 8 v=8 instance=j
        record g generation=1 protocol=range leader=i-7 members=i-7=X,j-8=Y
        parked
        8: joined generation=1 protocol=range leader=i-7 member=j-8
        > heartbeat j-8 instance=j
        alive
        > describe
        Stable type=consumer protocol=range
        i-7@i a/127.0.0.1 metadata= assignment=X
        j-8@j b/127.0.0.1 metadata= assignment=Y
        ",
    );
}

#[test]
fn a_restart_that_changes_the_protocol_rebalances() {
    check(
        "
        > join 1 instance=i protocols=range,sticky
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/
        > sync 2 i-1
        record g generation=1 protocol=range leader=i-1 members=i-1=
        parked
        2: synced protocol=range assignment=
        > join 3 instance=i protocols=sticky
        3: joined generation=2 protocol=sticky leader=i-3 member=i-3 members=i-3@i/
        parked
        > sync 4 i-3 generation=2 protocol=sticky
        record g generation=2 protocol=sticky leader=i-3 members=i-3=
        parked
        4: synced protocol=sticky assignment=
        ",
    );
}

#[test]
fn a_restart_while_the_assignment_is_computed_rebalances() {
    check(
        "
        > join 1 instance=i
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 instance=j
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/,j-2@j/
        2: joined generation=1 protocol=range leader=i-1 member=j-2
        > sync 3 j-2
        parked
        > join 4 instance=j
        3: FENCED_INSTANCE_ID
        parked
        > join 5 member=i-1 instance=i
        5: joined generation=2 protocol=range leader=i-1 member=i-1 members=i-1@i/,j-4@j/
        4: joined generation=2 protocol=range leader=i-1 member=j-4
        parked
        ",
    );
}

#[test]
fn the_former_self_is_fenced() {
    check(
        "
        > join 1 instance=i
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 instance=i
        1: FENCED_INSTANCE_ID member=i-1
        parked
        > advance 3000
        2: joined generation=1 protocol=range leader=i-2 member=i-2 members=i-2@i/
        > heartbeat i-1 instance=i
        FENCED_INSTANCE_ID
        > join 3 member=i-1 instance=i
        3: FENCED_INSTANCE_ID member=i-1
        > sync 4 i-2
        record g generation=1 protocol=range leader=i-2 members=i-2=
        parked
        4: synced protocol=range assignment=
        > commit i-1 instance=i t-0:1
        FENCED_INSTANCE_ID
        > leave i-1@i
        i-1@i=FENCED_INSTANCE_ID
        > leave @i
        record g generation=2 protocol=- leader=- members=
        @i=left
        > describe
        Empty type=consumer protocol=
        ",
    );
}

#[test]
fn a_static_member_that_does_not_rejoin_keeps_its_place_until_the_sync_deadline() {
    check(
        "
        > join 1 instance=i rebalance=5000
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 instance=j rebalance=5000 session=15000
        parked
        > advance 5000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/,j-2@j/
        2: joined generation=1 protocol=range leader=i-1 member=j-2
        > sync 3 i-1 assign=i-1:X,j-2:Y
        record g generation=1 protocol=range leader=i-1 members=i-1=X,j-2=Y
        parked
        3: synced protocol=range assignment=X
        > sync 4 j-2
        4: synced protocol=range assignment=Y
        > join 5 member=i-1 instance=i rebalance=5000
        parked
        > advance 5000
        5: joined generation=2 protocol=range leader=i-1 member=i-1 members=i-1@i/,j-2@j/
        > sync 6 i-1 generation=2 assign=i-1:X,j-2:Y
        record g generation=2 protocol=range leader=i-1 members=i-1=X,j-2=Y
        parked
        6: synced protocol=range assignment=X
        > heartbeat j-2 generation=2
        alive
        > advance 5000
        > describe
        PreparingRebalance type=consumer protocol=
        i-1@i c/127.0.0.1 metadata= assignment=X
        ",
    );
}

#[test]
fn nobody_rejoins_and_only_static_members_are_left() {
    check(
        "
        > join 1 instance=i rebalance=5000 session=12000
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b rebalance=5000 session=60000
        parked
        > advance 5000
        2: joined generation=1 protocol=range leader=i-1 member=b-2
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=b-2/,i-1@i/
        > sync 3 i-1
        record g generation=1 protocol=range leader=i-1 members=b-2=,i-1=
        parked
        3: synced protocol=range assignment=
        > sync 4 b-2
        4: synced protocol=range assignment=
        > leave b-2
        b-2=left
        > advance 5000
        > describe
        PreparingRebalance type=consumer protocol=
        i-1@i c/127.0.0.1 metadata= assignment=
        > advance 7000
        record g generation=2 protocol=- leader=- members=
        > describe
        Empty type=consumer protocol=
        ",
    );
}

#[test]
fn a_record_that_is_not_stored_gives_the_former_self_back() {
    check(
        "
        > join 1 instance=i
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/
        > sync 2 i-1 assign=i-1:X
        record g generation=1 protocol=range leader=i-1 members=i-1=X
        parked
        2: synced protocol=range assignment=X
        > hold
        > join 3 instance=i
        record g generation=1 protocol=range leader=i-3 members=i-3=X
        parked
        > heartbeat i-1 instance=i
        FENCED_INSTANCE_ID
        > failed
        3: COORDINATOR_NOT_AVAILABLE member=
        > heartbeat i-1 instance=i
        alive
        > heartbeat i-3 instance=i
        FENCED_INSTANCE_ID
        > sync 4 i-1
        4: synced protocol=range assignment=X
        ",
    );
}

#[test]
fn a_rebalance_that_begins_before_the_record_is_stored_answers_the_restarted_member() {
    check(
        "
        > join 1 instance=i
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/
        > sync 2 i-1
        record g generation=1 protocol=range leader=i-1 members=i-1=
        parked
        2: synced protocol=range assignment=
        > hold
        > join 3 instance=i
        record g generation=1 protocol=range leader=i-3 members=i-3=
        parked
        > join 4 v=3 client=b
        4: joined generation=2 protocol=range leader=i-3 member=b-4
        3: joined generation=2 protocol=range leader=i-3 member=i-3 members=b-4/,i-3@i/
        parked
        > stored
        > describe
        CompletingRebalance type=consumer protocol=
        b-4 b/127.0.0.1 metadata= assignment=
        i-3@i c/127.0.0.1 metadata= assignment=
        ",
    );
}

#[test]
fn a_pending_member_id_is_not_for_static_members() {
    check(
        "
        > join 1 client=a
        record g generation=0 protocol=- leader=- members=
        1: MEMBER_ID_REQUIRED member=a-1
        > join 2 member=a-1 instance=i
        2: UNKNOWN_SERVER_ERROR member=a-1
        ",
    );
}

#[test]
fn a_session_that_ends_while_the_record_is_stored_begins_anew() {
    check(
        "
        > join 1 instance=i
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=i-1 member=i-1 members=i-1@i/
        > sync 2 i-1
        record g generation=1 protocol=range leader=i-1 members=i-1=
        parked
        2: synced protocol=range assignment=
        > hold
        > join 3 instance=i
        record g generation=1 protocol=range leader=i-3 members=i-3=
        parked
        > advance 15000
        > stored
        3: joined generation=1 protocol=range leader=i-3 member=i-3 members=i-3@i/ skip-assignment
        > advance 9999
        > heartbeat i-3
        alive
        > advance 10000
        record g generation=2 protocol=- leader=- members=
        > describe
        Empty type=consumer protocol=
        ",
    );
}
