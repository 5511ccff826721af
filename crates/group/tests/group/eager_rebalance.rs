//! Members come, go, fall silent.

use ottla_group::GroupSettings;

use crate::harness::{check, check_with};

#[test]
fn two_members_join_and_sync() {
    check(
        "
        > join 1 client=a protocols=range/A,sticky
        record g generation=0 protocol=- leader=- members=
        1: MEMBER_ID_REQUIRED member=a-1
        > join 2 member=a-1 client=a protocols=range/A,sticky
        parked
        > join 3 client=b v=3 protocols=sticky,range/B
        parked
        > describe
        PreparingRebalance type=consumer protocol=
        a-1 a/127.0.0.1 metadata= assignment=
        b-3 b/127.0.0.1 metadata= assignment=
        > advance 2999
        > advance 1
        > advance 2999
        > advance 1
        2: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/A,b-3/B
        3: joined generation=1 protocol=range leader=a-1 member=b-3
        > heartbeat b-3
        alive
        > sync 4 b-3 protocol=range type=consumer
        parked
        > sync 5 a-1 assign=a-1:X,b-3:Y,stranger:Z
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-3=Y
        parked
        5: synced protocol=range assignment=X
        4: synced protocol=range assignment=Y
        > describe
        Stable type=consumer protocol=range
        a-1 a/127.0.0.1 metadata=A assignment=X
        b-3 b/127.0.0.1 metadata=B assignment=Y
        > sync 6 b-3
        6: synced protocol=range assignment=Y
        > list
        g Stable type=consumer
        > list stable empty
        g Stable type=consumer
        > list Empty
        ",
    );
}

#[test]
fn the_first_rebalance_waits_for_latecomers_up_to_the_rebalance_timeout() {
    check(
        "
        > join 1 v=3 client=a rebalance=7000
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 2000
        > join 2 v=3 client=b rebalance=7000
        parked
        > advance 3000
        > join 3 v=3 client=d rebalance=7000
        parked
        > advance 1999
        > advance 1
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/,d-3/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        3: joined generation=1 protocol=range leader=a-1 member=d-3
        ",
    );
}

#[test]
fn a_lone_member_waits_for_the_initial_delay_only() {
    check(
        "
        > join 1 v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=c-1 member=c-1 members=c-1/
        > sync 2 c-1
        record g generation=1 protocol=range leader=c-1 members=c-1=
        parked
        2: synced protocol=range assignment=
        ",
    );
}

#[test]
fn a_third_member_makes_the_others_rejoin() {
    check(
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/
        > sync 2 a-1 assign=a-1:X
        record g generation=1 protocol=range leader=a-1 members=a-1=X
        parked
        2: synced protocol=range assignment=X
        > join 3 v=3 client=b
        parked
        > heartbeat a-1
        REBALANCE_IN_PROGRESS
        > sync 4 a-1
        4: REBALANCE_IN_PROGRESS
        > join 5 member=a-1
        5: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/,b-3/
        3: joined generation=2 protocol=range leader=a-1 member=b-3
        parked
        > sync 6 a-1 generation=1
        6: ILLEGAL_GENERATION
        > sync 7 b-3 generation=2
        parked
        > join 8 v=3 client=d
        7: REBALANCE_IN_PROGRESS
        parked
        > join 9 member=a-1
        parked
        > join 10 member=b-3
        9: joined generation=3 protocol=range leader=a-1 member=a-1 members=a-1/,b-3/,d-8/
        10: joined generation=3 protocol=range leader=a-1 member=b-3
        8: joined generation=3 protocol=range leader=a-1 member=d-8
        parked
        ",
    );
}

#[test]
fn who_does_not_rejoin_is_out_and_another_leads() {
    check(
        "
        > join 1 v=3 client=a session=30000 rebalance=20000
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b session=30000 rebalance=20000
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 a-1 assign=a-1:X,b-2:Y
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-2=Y
        parked
        3: synced protocol=range assignment=X
        > sync 4 b-2
        4: synced protocol=range assignment=Y
        > join 5 member=b-2 protocols=range/new rebalance=5000
        parked
        > advance 19000
        > heartbeat a-1
        REBALANCE_IN_PROGRESS
        > heartbeat b-2
        REBALANCE_IN_PROGRESS
        > advance 999
        > advance 1
        5: joined generation=2 protocol=range leader=b-2 member=b-2 members=b-2/new
        > heartbeat a-1
        UNKNOWN_MEMBER_ID
        > sync 6 b-2 generation=2 assign=b-2:Z
        record g generation=2 protocol=range leader=b-2 members=b-2=Z
        parked
        6: synced protocol=range assignment=Z
        ",
    );
}

#[test]
fn a_silent_member_is_removed_at_the_end_of_its_session() {
    check(
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b session=20000
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 a-1 assign=a-1:X,b-2:Y
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-2=Y
        parked
        3: synced protocol=range assignment=X
        > sync 4 b-2
        4: synced protocol=range assignment=Y
        > advance 9000
        > heartbeat a-1
        alive
        > advance 9000
        > heartbeat a-1
        alive
        > advance 1999
        > advance 1
        > heartbeat a-1
        REBALANCE_IN_PROGRESS
        > join 5 member=a-1
        5: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/
        parked
        > sync 6 a-1 generation=2
        record g generation=2 protocol=range leader=a-1 members=a-1=
        parked
        6: synced protocol=range assignment=
        > advance 10000
        record g generation=3 protocol=- leader=- members=
        > describe
        Empty type=consumer protocol=
        ",
    );
}

#[test]
fn commits_keep_the_session_too() {
    check(
        "
        > join 1 v=3
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=c-1 member=c-1 members=c-1/
        > sync 2 c-1
        record g generation=1 protocol=range leader=c-1 members=c-1=
        parked
        2: synced protocol=range assignment=
        > advance 9000
        > commit c-1 t-0:5
        record t-0 at 5
        t-0=committed
        > advance 9999
        > heartbeat c-1
        alive
        ",
    );
}

#[test]
fn a_pending_member_id_holds_the_join_phase_until_its_session_ends() {
    check(
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/
        > sync 2 a-1
        record g generation=1 protocol=range leader=a-1 members=a-1=
        parked
        2: synced protocol=range assignment=
        > join 3 client=b session=6000
        3: MEMBER_ID_REQUIRED member=b-3
        > heartbeat a-1
        alive
        > join 4 member=a-1
        parked
        > advance 5999
        > describe
        PreparingRebalance type=consumer protocol=
        a-1 a/127.0.0.1 metadata= assignment=
        > advance 1
        4: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/
        > join 5 member=b-3 client=b
        5: UNKNOWN_MEMBER_ID member=b-3
        ",
    );
}

#[test]
fn a_new_member_that_gave_up_is_removed_after_five_minutes() {
    check(
        "
        > join 1 v=3 client=a session=1800000 rebalance=600000
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/
        > sync 2 a-1
        record g generation=1 protocol=range leader=a-1 members=a-1=
        parked
        2: synced protocol=range assignment=
        > join 3 v=3 client=ghost
        parked
        > advance 299999
        > describe
        PreparingRebalance type=consumer protocol=
        a-1 a/127.0.0.1 metadata= assignment=
        ghost-3 ghost/127.0.0.1 metadata= assignment=
        > advance 1
        3: UNKNOWN_MEMBER_ID member=
        > describe
        PreparingRebalance type=consumer protocol=
        a-1 a/127.0.0.1 metadata= assignment=
        ",
    );
}

#[test]
fn whoever_never_syncs_is_out() {
    check(
        "
        > join 1 v=3 client=a rebalance=5000
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b rebalance=5000 session=30000
        parked
        > advance 5000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 a-1 assign=a-1:X,b-2:Y
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-2=Y
        parked
        3: synced protocol=range assignment=X
        > heartbeat b-2
        alive
        > advance 4999
        > heartbeat a-1
        alive
        > advance 1
        > heartbeat b-2
        UNKNOWN_MEMBER_ID
        > heartbeat a-1
        REBALANCE_IN_PROGRESS
        > join 4 member=a-1
        4: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/
        parked
        ",
    );
}

#[test]
fn a_leader_that_never_syncs_is_out_and_the_others_are_told() {
    check(
        "
        > join 1 v=3 client=a rebalance=5000 session=60000
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b rebalance=5000
        parked
        > advance 5000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 b-2
        parked
        > advance 5000
        3: REBALANCE_IN_PROGRESS
        > join 4 member=b-2
        4: joined generation=2 protocol=range leader=b-2 member=b-2 members=b-2/
        parked
        ",
    );
}

#[test]
fn leaving() {
    check(
        "
        > leave a-1
        a-1=UNKNOWN_MEMBER_ID
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b
        parked
        > join 3 client=d
        3: MEMBER_ID_REQUIRED member=d-3
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > leave d-3 nobody-9 @unknown
        d-3=left nobody-9=UNKNOWN_MEMBER_ID @unknown=UNKNOWN_MEMBER_ID
        > sync 4 a-1 assign=a-1:X
        4: REBALANCE_IN_PROGRESS
        > leave b-2
        b-2=left
        > heartbeat a-1
        REBALANCE_IN_PROGRESS
        > join 5 member=a-1
        5: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/
        parked
        > leave a-1
        record g generation=3 protocol=- leader=- members=
        a-1=left
        > describe
        Empty type=consumer protocol=
        > heartbeat a-1 generation=3
        UNKNOWN_MEMBER_ID
        > leave a-1
        a-1=UNKNOWN_MEMBER_ID
        ",
    );
}

#[test]
fn leaving_while_a_request_is_parked_answers_it() {
    check(
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b
        parked
        > leave b-2
        2: UNKNOWN_MEMBER_ID member=
        b-2=left
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/
        > join 3 v=3 client=b
        parked
        > join 4 member=a-1
        4: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/,b-3/
        3: joined generation=2 protocol=range leader=a-1 member=b-3
        parked
        > sync 5 b-3 generation=2
        parked
        > leave b-3
        5: UNKNOWN_MEMBER_ID
        b-3=left
        ",
    );
}

#[test]
fn protocols_must_have_something_in_common() {
    check(
        "
        > join 1 v=3 protocols=
        1: INCONSISTENT_GROUP_PROTOCOL member=
        > join 2 v=3 type=
        2: INCONSISTENT_GROUP_PROTOCOL member=
        > list
        > join 3 v=3 client=a protocols=range,sticky
        record g generation=0 protocol=- leader=- members=
        parked
        > join 4 v=3 client=b protocols=roundrobin
        4: INCONSISTENT_GROUP_PROTOCOL member=
        > join 5 v=3 client=b type=connect
        5: INCONSISTENT_GROUP_PROTOCOL member=
        > join 6 v=3 client=b protocols=sticky
        parked
        > join 7 member=a-3 protocols=range
        7: INCONSISTENT_GROUP_PROTOCOL member=a-3
        > join 8 v=3 client=d protocols=range
        8: INCONSISTENT_GROUP_PROTOCOL member=
        > advance 6000
        3: joined generation=1 protocol=sticky leader=a-3 member=a-3 members=a-3/,b-6/
        6: joined generation=1 protocol=sticky leader=a-3 member=b-6
        > sync 9 a-3 protocol=range
        9: INCONSISTENT_GROUP_PROTOCOL
        > sync 10 a-3 type=connect
        10: INCONSISTENT_GROUP_PROTOCOL
        > sync 11 a-3 protocol=sticky type=consumer assign=b-6:X
        record g generation=1 protocol=sticky leader=a-3 members=a-3=,b-6=X
        parked
        11: synced protocol=sticky assignment=
        ",
    );
}

#[test]
fn requests_nobody_is_entitled_to() {
    check(
        "
        > join 1 session=5999
        1: INVALID_SESSION_TIMEOUT member=
        > join 2 session=1800001
        2: INVALID_SESSION_TIMEOUT member=
        > join 3 member=a-1
        3: UNKNOWN_MEMBER_ID member=a-1
        > join 4 group=
        4: INVALID_GROUP_ID member=
        > sync 5 a-1
        5: UNKNOWN_MEMBER_ID
        > heartbeat a-1
        UNKNOWN_MEMBER_ID
        > join 6 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        6: joined generation=1 protocol=range leader=a-6 member=a-6 members=a-6/
        > heartbeat b-1
        UNKNOWN_MEMBER_ID
        > heartbeat a-6 generation=0
        ILLEGAL_GENERATION
        > sync 7 b-1
        7: UNKNOWN_MEMBER_ID
        > join 8 member=b-1
        8: UNKNOWN_MEMBER_ID member=b-1
        > join 9 member=a-6 instance=i
        9: UNKNOWN_MEMBER_ID member=a-6
        ",
    );
}

#[test]
fn joining_again_with_nothing_new_does_not_disturb_the_group() {
    check(
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > join 3 member=b-2
        3: joined generation=1 protocol=range leader=a-1 member=b-2
        > join 4 member=a-1
        4: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        > sync 5 a-1 assign=a-1:X,b-2:Y
        record g generation=1 protocol=range leader=a-1 members=a-1=X,b-2=Y
        parked
        5: synced protocol=range assignment=X
        > join 6 member=b-2
        6: joined generation=1 protocol=range leader=a-1 member=b-2
        > join 7 member=b-2 protocols=range/changed
        parked
        > join 8 member=b-2 protocols=range/again
        7: REBALANCE_IN_PROGRESS member=b-2
        parked
        > join 9 member=a-1
        9: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/again
        8: joined generation=2 protocol=range leader=a-1 member=b-2
        parked
        ",
    );
}

#[test]
fn repeated_syncs_answer_the_earlier() {
    check(
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b
        parked
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > sync 3 b-2
        parked
        > sync 4 b-2
        3: REBALANCE_IN_PROGRESS
        parked
        > sync 5 a-1
        record g generation=1 protocol=range leader=a-1 members=a-1=,b-2=
        parked
        5: synced protocol=range assignment=
        4: synced protocol=range assignment=
        ",
    );
}

#[test]
fn the_group_has_a_size() {
    let settings = GroupSettings { max_size: 2, ..GroupSettings::default() };
    check_with(
        settings,
        "
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > join 2 v=3 client=b
        parked
        > join 3 v=3 client=d
        3: GROUP_MAX_SIZE_REACHED member=
        > advance 6000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/,b-2/
        2: joined generation=1 protocol=range leader=a-1 member=b-2
        > join 4 v=3 client=d
        4: GROUP_MAX_SIZE_REACHED member=
        > sync 5 a-1
        record g generation=1 protocol=range leader=a-1 members=a-1=,b-2=
        parked
        5: synced protocol=range assignment=
        > join 6 v=3 client=d
        6: GROUP_MAX_SIZE_REACHED member=
        > settings max-size=1
        > join 7 member=a-1
        parked
        > join 8 member=b-2
        8: GROUP_MAX_SIZE_REACHED member=
        > advance 60000
        7: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1/
        ",
    );
}
