//! OffsetCommit and OffsetFetch.

use ottla_group::GroupSettings;

use crate::harness::{check, check_with};

#[test]
fn a_group_that_only_keeps_offsets() {
    check(
        "
        > fetch t-0
        t-0 at -1
        > fetch
        > commit - t-0:5 t-1:7/meta u-0:1
        record t-0 at 5
        record t-1 at 7
        record u-0 at 1
        t-0=committed t-1=committed u-0=committed
        > fetch t-0 t-1 t-2 u-0 v-0
        t-0 at 5 epoch=3
        t-1 at 7 epoch=3 metadata=meta
        t-2 at -1
        u-0 at 1 epoch=3
        v-0 at -1
        > fetch
        t-0 at 5 epoch=3
        t-1 at 7 epoch=3 metadata=meta
        u-0 at 1 epoch=3
        > list
        g Empty type=
        > describe
        Empty type= protocol=
        > commit - t-0:6
        record t-0 at 6
        t-0=committed
        > fetch t-0
        t-0 at 6 epoch=3
        > commit a-1 t-0:8
        UNKNOWN_MEMBER_ID
        ",
    );
}

#[test]
fn members_commit_in_their_generation() {
    check(
        "
        > commit a-1 v=8 t-0:1
        ILLEGAL_GENERATION
        > commit a-1 v=9 t-0:1
        GROUP_ID_NOT_FOUND
        > join 1 v=3 client=a
        record g generation=0 protocol=- leader=- members=
        parked
        > commit a-1 generation=0 t-0:1
        record t-0 at 1
        t-0=committed
        > commit - t-0:1
        UNKNOWN_MEMBER_ID
        > advance 3000
        1: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1/
        > commit a-1 t-0:1
        REBALANCE_IN_PROGRESS
        > sync 2 a-1
        record g generation=1 protocol=range leader=a-1 members=a-1=
        parked
        2: synced protocol=range assignment=
        > commit a-1 t-0:2
        record t-0 at 2
        t-0=committed
        > commit a-1 generation=0 t-0:3
        ILLEGAL_GENERATION
        > commit b-1 t-0:3
        UNKNOWN_MEMBER_ID
        > commit - t-0:3
        UNKNOWN_MEMBER_ID
        > commit a-1 generation=-1 t-0:3
        ILLEGAL_GENERATION
        > commit a-1 instance=i t-0:3
        UNKNOWN_MEMBER_ID
        > fetch t-0
        t-0 at 2 epoch=3
        > leave a-1
        record g generation=2 protocol=- leader=- members=
        a-1=left
        > commit - t-0:4
        record t-0 at 4
        t-0=committed
        > commit a-1 t-0:4
        UNKNOWN_MEMBER_ID
        ",
    );
}

#[test]
fn metadata_has_a_size() {
    let settings = GroupSettings { offset_metadata_max_bytes: 3, ..GroupSettings::default() };
    check_with(
        settings,
        "
        > commit - t-0:5/abc t-1:6/abcd t-2:7/äöü t-3:8/😀😀
        record t-0 at 5
        record t-2 at 7
        t-0=committed t-1=OFFSET_METADATA_TOO_LARGE t-2=committed t-3=OFFSET_METADATA_TOO_LARGE
        > fetch
        t-0 at 5 epoch=3 metadata=abc
        t-2 at 7 epoch=3 metadata=äöü
        ",
    );
}

#[test]
fn an_offset_of_a_deleted_topic_is_not_the_new_topics() {
    check(
        "
        > commit - id=1 t-0:5
        record t-0 at 5
        t-0=committed
        > fetch id=1 t-0
        t-0 at 5 epoch=3
        > fetch id=2 t-0
        t-0 at -1
        > fetch t-0
        t-0 at 5 epoch=3
        > commit - t-1:6
        record t-1 at 6
        t-1=committed
        > delete-topic t id=2
        record t-1 deleted
        > delete-topic t id=1
        record t-0 deleted
        > delete-topic t id=1
        > fetch
        ",
    );
}

#[test]
fn a_commit_that_is_not_appended_changes_nothing() {
    check(
        "
        > full
        > commit - t-0:5
        not appended: record t-0 at 5
        append failed
        > fetch
        > list
        ",
    );
}
