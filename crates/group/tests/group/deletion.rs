//! DeleteGroups and OffsetDelete.

use crate::harness::check;

#[test]
fn a_group_goes_with_everything_it_committed() {
    check(
        "
        > delete-group
        GROUP_ID_NOT_FOUND
        > commit - t-0:5 t-1:6 u-0:7
        record t-0 at 5
        record t-1 at 6
        record u-0 at 7
        t-0=committed t-1=committed u-0=committed
        > delete-group
        record t-0 deleted
        record t-1 deleted
        record u-0 deleted
        record g deleted
        deleted
        > list
        > fetch
        > delete-group
        GROUP_ID_NOT_FOUND
        > crash
        > list
        > fetch
        ",
    );
}

#[test]
fn a_group_with_members_stays() {
    check(
        "
        > join 1 v=3 session=60000
        record g generation=0 protocol=- leader=- members=
        parked
        > delete-group
        NON_EMPTY_GROUP
        > advance 3000
        1: joined generation=1 protocol=range leader=c-1 member=c-1 members=c-1/
        > delete-group
        NON_EMPTY_GROUP
        > sync 2 c-1
        record g generation=1 protocol=range leader=c-1 members=c-1=
        parked
        2: synced protocol=range assignment=
        > commit c-1 t-0:5
        record t-0 at 5
        t-0=committed
        > delete-group
        NON_EMPTY_GROUP
        > leave c-1
        record g generation=2 protocol=- leader=- members=
        c-1=left
        > delete-group
        record t-0 deleted
        record g deleted
        deleted
        > crash
        > list
        ",
    );
}

/// Nobody has joined who was only given a member id; when that client comes back, it founds the group anew.
#[test]
fn a_member_id_that_was_handed_out_does_not_keep_a_group() {
    check(
        "
        > join 1
        record g generation=0 protocol=- leader=- members=
        1: MEMBER_ID_REQUIRED member=c-1
        > delete-group
        record g deleted
        deleted
        > list
        > join 2 member=c-1
        2: UNKNOWN_MEMBER_ID member=c-1
        > advance 20000
        ",
    );
}

#[test]
fn a_deletion_that_is_not_appended_changes_nothing() {
    check(
        "
        > commit - t-0:5
        record t-0 at 5
        t-0=committed
        > full
        > delete-offsets t-0
        not appended: record t-0 deleted
        append failed
        > delete-group
        not appended: record t-0 deleted
        not appended: record g deleted
        append failed
        > fetch
        t-0 at 5 epoch=3
        ",
    );
}

#[test]
fn offsets_of_a_group_without_members_are_deleted_one_by_one() {
    check(
        "
        > delete-offsets t-0
        GROUP_ID_NOT_FOUND
        > commit - t-0:5 t-1:6 u-0:7
        record t-0 at 5
        record t-1 at 6
        record u-0 at 7
        t-0=committed t-1=committed u-0=committed
        > delete-offsets t-1 t-7 v-0 u-0
        record t-1 deleted
        record u-0 deleted
        t-1=deleted t-7=deleted v-0=deleted u-0=deleted
        > delete-offsets t-1
        t-1=deleted
        > fetch
        t-0 at 5 epoch=3
        > crash
        > fetch
        t-0 at 5 epoch=3
        > delete-offsets t-0
        record t-0 deleted
        t-0=deleted
        > fetch
        > list
        g Empty type=
        > crash
        > list
        ",
    );
}

#[test]
fn what_members_subscribe_to_is_not_deleted() {
    check(
        "
        > join 1 v=3 session=60000 protocols=range/@t
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=c-1 member=c-1 members=c-1/\0\0\0\0\0\u{1}\0\u{1}t\u{fffd}\u{fffd}\u{fffd}\u{fffd}
        > sync 2 c-1
        record g generation=1 protocol=range leader=c-1 members=c-1=
        parked
        2: synced protocol=range assignment=
        > commit c-1 t-0:5 u-0:6
        record t-0 at 5
        record u-0 at 6
        t-0=committed u-0=committed
        > delete-offsets t-0 u-0
        record u-0 deleted
        t-0=GROUP_SUBSCRIBED_TO_TOPIC u-0=deleted
        > leave c-1
        record g generation=2 protocol=- leader=- members=
        c-1=left
        > delete-offsets t-0
        record t-0 deleted
        t-0=deleted
        ",
    );
}

/// Subscriptions that cannot be read may name any topic; other protocols have none at all.
#[test]
fn unreadable_subscriptions_protect_everything() {
    check(
        "
        > join 1 v=3 session=60000 protocols=range/x
        record g generation=0 protocol=- leader=- members=
        parked
        > advance 3000
        1: joined generation=1 protocol=range leader=c-1 member=c-1 members=c-1/x
        > delete-offsets t-0
        t-0=GROUP_SUBSCRIBED_TO_TOPIC
        ",
    );
    check(
        "
        > join 1 v=3 session=60000 type=connect protocols=range/@t
        record g generation=0 protocol=- leader=- members=
        parked
        > delete-offsets u-0
        NON_EMPTY_GROUP
        ",
    );
}
