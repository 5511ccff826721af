//! Offsets that were committed in transactions, as Apache Kafka left them in the log.

use ottla_group::GroupSettings;

use crate::harness::{check, check_with};

#[test]
fn an_offset_counts_when_its_transaction_is_committed() {
    check(
        "
        > transaction 7 t-0:5 t-1:6
        > transaction 8 t-2:1
        > fetch t-0 t-1 t-2
        t-0 at -1
        t-1 at -1
        t-2 at -1
        > fetch require=stable t-0 t-1 t-2 t-3
        t-0 at -1 UNSTABLE_OFFSET_COMMIT
        t-1 at -1 UNSTABLE_OFFSET_COMMIT
        t-2 at -1 UNSTABLE_OFFSET_COMMIT
        t-3 at -1
        > transaction 7 commit
        > transaction 8 abort
        > fetch require=stable t-0 t-1 t-2
        t-0 at 5
        t-1 at 6
        t-2 at -1
        > list
        g Empty type=
        > transaction 7 commit
        > crash
        > fetch require=stable
        t-0 at 5
        t-1 at 6
        ",
    );
}

/// Both views of the partition: with and without what may change.
#[test]
fn a_pending_offset_beside_a_committed_one() {
    check(
        "
        > commit - t-0:3 t-1:4
        record t-0 at 3
        record t-1 at 4
        t-0=committed t-1=committed
        > transaction 7 t-0:9 u-0:1
        > crash
        > fetch
        t-0 at 3 epoch=3
        t-1 at 4 epoch=3
        > fetch require=stable
        t-0 at -1 UNSTABLE_OFFSET_COMMIT
        t-1 at 4 epoch=3
        > fetch t-0
        t-0 at 3 epoch=3
        > transaction 7 commit
        > fetch require=stable
        t-0 at 9
        t-1 at 4 epoch=3
        u-0 at 1
        ",
    );
}

#[test]
fn what_is_later_in_the_log_counts() {
    check(
        "
        > transaction 7 t-0:5 t-1:5
        > commit - t-0:3
        record t-0 at 3
        t-0=committed
        > fetch require=stable t-0
        t-0 at -1 UNSTABLE_OFFSET_COMMIT
        > transaction 7 commit
        > fetch require=stable t-0 t-1
        t-0 at 3 epoch=3
        t-1 at 5
        > transaction 7 t-0:10
        > transaction 8 t-0:11
        > transaction 8 commit
        > fetch t-0
        t-0 at 11
        > fetch require=stable t-0
        t-0 at -1 UNSTABLE_OFFSET_COMMIT
        > transaction 7 commit
        > fetch require=stable t-0
        t-0 at 11
        > transaction 7 t-0:20
        > transaction 8 t-0:21
        > transaction 8 abort
        > transaction 7 commit
        > fetch require=stable t-0
        t-0 at 20
        > transaction 7 t-0:30
        > commit - t-0:31
        record t-0 at 31
        t-0=committed
        > transaction 7 t-0:32
        > transaction 7 commit
        > crash
        > fetch require=stable t-0
        t-0 at 32
        ",
    );
}

#[test]
fn what_is_deleted_is_no_longer_pending() {
    check(
        "
        > commit - t-0:3
        record t-0 at 3
        t-0=committed
        > transaction 7 t-0:5 t-1:6
        > delete-offsets t-0 t-1 t-2
        record t-0 deleted
        record t-1 deleted
        t-0=deleted t-1=deleted t-2=deleted
        > fetch require=stable t-0 t-1
        t-0 at -1
        t-1 at -1
        > transaction 7 commit
        > fetch
        > transaction 7 t-0:7
        > transaction 7 t-0:-
        > transaction 7 commit
        > fetch
        ",
    );
}

#[test]
fn a_group_with_a_pending_offset_is_there_until_it_is_deleted() {
    check(
        "
        > transaction 7 t-0:5 u-0:1
        > list
        g Empty type=
        > crash
        > list
        g Empty type=
        > commit - t-0:4
        record t-0 at 4
        t-0=committed
        > delete-group
        record t-0 deleted
        record u-0 deleted
        record g deleted
        deleted
        > list
        > transaction 7 commit
        > crash
        > list
        > fetch
        ",
    );
}

#[test]
fn a_topic_that_is_deleted_takes_what_is_pending_for_it() {
    check(
        "
        > transaction 7 id=1 t-0:5 u-0:1
        > transaction 8 id=2 t-1:6
        > commit - id=1 t-2:4
        record t-2 at 4
        t-2=committed
        > delete-topic t id=1
        record t-2 deleted
        record t-0 deleted
        > delete-topic t id=1
        > transaction 7 commit
        > transaction 8 commit
        > fetch
        t-1 at 6
        u-0 at 1
        ",
    );
}

#[test]
fn what_is_pending_does_not_expire() {
    let settings = GroupSettings {
        offsets_retention_ms: 10_000,
        offsets_retention_check_interval_ms: 1_000,
        ..GroupSettings::default()
    };
    check_with(
        settings,
        "
        > commit - t-0:3 t-1:4
        record t-0 at 3
        record t-1 at 4
        t-0=committed t-1=committed
        > transaction 7 t-0:5 u-0:6
        > advance 20000
        record t-1 deleted
        > fetch
        t-0 at 3 epoch=3
        > list
        g Empty type=
        > transaction 7 abort
        > advance 1000
        record t-0 deleted
        record g deleted
        > list
        ",
    );
}
