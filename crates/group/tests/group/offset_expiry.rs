//! `offsets.retention.minutes`.

use ottla_group::GroupSettings;

use crate::harness::check_with;

fn settings() -> GroupSettings {
    GroupSettings {
        offsets_retention_ms: 100_000,
        offsets_retention_check_interval_ms: 10_000,
        max_session_timeout_ms: 10_000_000,
        ..GroupSettings::default()
    }
}

#[test]
fn offsets_without_members_expire_by_their_commit() {
    check_with(
        settings(),
        "
        > commit - t-0:5
        record t-0 at 5
        t-0=committed
        > advance 50000
        > commit - t-1:6
        record t-1 at 6
        t-1=committed
        > commit - retention=5000 t-2:7
        record t-2 at 7 expires=55000
        t-2=committed
        > advance 10000
        record t-2 deleted
        > advance 39999
        > advance 1
        record t-0 deleted
        > fetch
        t-1 at 6 epoch=3
        > advance 50000
        record t-1 deleted
        record g deleted
        > list
        > crash
        > list
        ",
    );
}

#[test]
fn offsets_of_a_group_expire_once_it_has_been_empty_for_long() {
    check_with(
        settings(),
        "
        > join 1 v=3 session=9000000 type=other
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=c-1 member=c-1 members=c-1/
        > sync 2 c-1
        record g generation=1 protocol=range leader=c-1 members=c-1=
        parked
        2: synced protocol=range assignment=
        > commit c-1 t-0:5
        record t-0 at 5
        t-0=committed
        > advance 197000
        > fetch
        t-0 at 5 epoch=3
        > leave c-1
        record g generation=2 protocol=- leader=- members=
        c-1=left
        > advance 99999
        > fetch
        t-0 at 5 epoch=3
        > advance 1
        record t-0 deleted
        record g deleted
        > list
        ",
    );
}

#[test]
fn a_pending_member_keeps_its_group() {
    check_with(
        settings(),
        "
        > join 1 session=60000
        record g generation=0 protocol=- leader=- members=
        1: MEMBER_ID_REQUIRED member=c-1
        > advance 59999
        > list
        g Empty type=
        > advance 10000
        record g deleted
        > list
        ",
    );
}

#[test]
fn many_offsets_expire_in_several_passes() {
    let partitions = |line: &dyn Fn(i32) -> String| (0..2_500).map(line).collect::<Vec<_>>();
    let commits = partitions(&|partition| format!("t-{partition}:1")).join(" ");
    let records = partitions(&|partition| format!("record t-{partition} at 1")).join("\n");
    let committed = partitions(&|partition| format!("t-{partition}=committed")).join(" ");
    let tombstones = partitions(&|partition| format!("record t-{partition} deleted")).join("\n");
    check_with(
        settings(),
        &format!(
            "> commit - {commits}\n{records}\n{committed}\n> advance 100200\n{tombstones}\nrecord g deleted\n> list"
        ),
    );
}
