"""Consumer groups of the classic protocol: rebalances, static members, offsets."""

import time
from typing import Any

from ..failure import check, check_equal
from ..record import Record
from ..scenario import WIRE, Context, Program, Scenario, Suite
from ..steps.groups import (
    AwaitError,
    AwaitOwned,
    AwaitReceived,
    Commit,
    CommittedIs,
    Drain,
    GaveUp,
    GroupIs,
    Join,
    Kill,
    Leave,
    MarkHistory,
    NextRecordIs,
    NoErrors,
    NotBefore,
    NothingHappened,
    Owns,
    Seek,
)
from ..steps.records import CreateTopic, Produce
from ..waiting import wait_until
from ..wire.case import Request
from ..wire.group_cases import describe, find, heartbeat, join, sync

SPREAD = [Record(b"value %d" % number, partition=number % 4) for number in range(40)]
TEN = [Record(b"value %d" % number) for number in range(10)]

ASSIGNORS = ("range", "roundrobin", "cooperative-sticky")
# What a client must know beyond groups themselves.
NEEDS = {
    "range": frozenset({"range"}),
    "roundrobin": frozenset({"roundrobin"}),
    "cooperative-sticky": frozenset({"cooperative"}),
}
STATIC_MEMBERS = frozenset({"static"})


def come_and_go(assignor: str) -> Scenario:
    """Two, then three members, then one leaves: all partitions are owned once, all records arrive once."""
    config = {"partition.assignment.strategy": assignor, "enable.auto.commit": "true"}
    return Scenario(
        f"members-come-and-go-{assignor}",
        [
            CreateTopic("t", 4),
            Join("a", config=config),
            AwaitOwned({"a": 4}),
            GroupIs("STABLE", 1, assignor),
            Join("b", config=config),
            AwaitOwned({"a": 2, "b": 2}),
            GroupIs("STABLE", 2, assignor),
            Produce("t", SPREAD),
            AwaitReceived(["a", "b"]),
            Leave("b"),
            AwaitOwned({"a": 4}),
            GroupIs("STABLE", 1, assignor),
            NoErrors(["a"]),
            Leave("a"),
            GroupIs("EMPTY", 0),
        ],
        NEEDS[assignor],
    )


def three_members(assignor: str) -> Scenario:
    config = {"partition.assignment.strategy": assignor}
    return Scenario(
        f"three-members-{assignor}",
        [
            CreateTopic("t", 6),
            Join("a", config=config),
            Join("b", config=config),
            Join("c", config=config),
            AwaitOwned({"a": 2, "b": 2, "c": 2}, {"t": 6}),
            GroupIs("STABLE", 3, assignor),
            Leave("c"),
            AwaitOwned({"a": 3, "b": 3}, {"t": 6}),
            Leave("b"),
            AwaitOwned({"a": 6}, {"t": 6}),
        ],
        NEEDS[assignor],
    )


def killed(assignor: str) -> Scenario:
    """A member that died is missed after its session timeout, not before and not never."""
    config = {"partition.assignment.strategy": assignor, "session.timeout.ms": "6000"}
    return Scenario(
        f"killed-member-{assignor}",
        [
            CreateTopic("t", 4),
            Join("a", config=config),
            Join("b", config=config, process="doomed"),
            AwaitOwned({"a": 2, "b": 2}),
            MarkHistory(),
            Kill("b"),
            NothingHappened(["a"]),
            AwaitOwned({"a": 4}),
            NotBefore("b", 3),
            Produce("t", SPREAD),
            AwaitReceived(["a"]),
            GroupIs("STABLE", 1),
            NoErrors(["a"]),
        ],
        NEEDS[assignor],
    )


REBALANCES = [
    *[come_and_go(assignor) for assignor in ASSIGNORS],
    *[three_members(assignor) for assignor in ASSIGNORS],
    *[killed(assignor) for assignor in ("range", "cooperative-sticky")],
    Scenario(
        "cooperative-keeps-what-stays",
        [
            CreateTopic("t", 4),
            Join("a", config={"partition.assignment.strategy": "cooperative-sticky"}),
            AwaitOwned({"a": 4}),
            MarkHistory(),
            Join("b", config={"partition.assignment.strategy": "cooperative-sticky"}),
            AwaitOwned({"a": 2, "b": 2}),
            GaveUp("a", 2),
        ],
        frozenset({"cooperative"}),
    ),
    Scenario(
        "eager-gives-up-everything",
        [
            CreateTopic("t", 4),
            Join("a", config={"partition.assignment.strategy": "range"}),
            AwaitOwned({"a": 4}),
            MarkHistory(),
            Join("b", config={"partition.assignment.strategy": "range"}),
            AwaitOwned({"a": 2, "b": 2}),
            GaveUp("a", 4),
        ],
        NEEDS["range"],
    ),
    Scenario(
        "two-topics-range",
        [
            CreateTopic("t", 3),
            CreateTopic("u", 3),
            Join("a", topics=("t", "u"), config={"partition.assignment.strategy": "range"}),
            Join("b", topics=("t", "u"), config={"partition.assignment.strategy": "range"}),
            # One of them gets the larger half of both topics.
            AwaitOwned({"a": 4, "b": 2}, {"t": 3, "u": 3}),
        ],
        NEEDS["range"],
    ),
    Scenario(
        "two-topics-roundrobin",
        [
            CreateTopic("t", 3),
            CreateTopic("u", 3),
            Join("a", topics=("t", "u"), config={"partition.assignment.strategy": "roundrobin"}),
            Join("b", topics=("t", "u"), config={"partition.assignment.strategy": "roundrobin"}),
            AwaitOwned({"a": 3, "b": 3}, {"t": 3, "u": 3}),
        ],
        frozenset({"roundrobin"}),
    ),
    Scenario(
        "more-members-than-partitions",
        [
            CreateTopic("t", 1),
            Join("a"),
            AwaitOwned({"a": 1}, {"t": 1}),
            Join("b"),
            GroupIs("STABLE", 2, compare_assignments=False),
            AwaitOwned({"a": 1, "b": 0}, {"t": 1}),
        ],
    ),
    Scenario(
        "two-groups-do-not-meet",
        [
            CreateTopic("t", 4),
            Produce("t", SPREAD),
            Join("a", group="g"),
            Join("b", group="h"),
            AwaitOwned({"a": 4}),
            AwaitOwned({"b": 4}),
            AwaitReceived(["a"]),
            GroupIs("STABLE", 1, group="h"),
        ],
        frozenset(),
    ),
    Scenario(
        "protocol-not-chosen",
        [
            CreateTopic("t", 4),
            Join("a", protocol=None),
            AwaitOwned({"a": 4}),
            Produce("t", SPREAD),
            AwaitReceived(["a"]),
        ],
    ),
]

STATIC = [
    Scenario(
        "static-member-restarts-quietly",
        [
            CreateTopic("t", 4),
            Join("a", config={"group.instance.id": "a", "session.timeout.ms": "30000"}),
            Join("b", config={"group.instance.id": "b", "session.timeout.ms": "30000"}),
            AwaitOwned({"a": 2, "b": 2}),
            MarkHistory(),
            Leave("a"),
            Join("a", config={"group.instance.id": "a", "session.timeout.ms": "30000"}),
            AwaitOwned({"a": 2, "b": 2}),
            NothingHappened(["b"]),
            GroupIs("STABLE", 2),
        ],
        STATIC_MEMBERS,
    ),
    Scenario(
        "static-member-killed-and-back",
        [
            CreateTopic("t", 4),
            Join("a", config={"group.instance.id": "a", "session.timeout.ms": "30000"}, process="doomed"),
            Join("b", config={"group.instance.id": "b", "session.timeout.ms": "30000"}),
            AwaitOwned({"a": 2, "b": 2}),
            MarkHistory(),
            Kill("a"),
            Join("a", config={"group.instance.id": "a", "session.timeout.ms": "30000"}, process="reborn"),
            AwaitOwned({"a": 2, "b": 2}),
            NothingHappened(["b"]),
        ],
        STATIC_MEMBERS,
    ),
    Scenario(
        "static-member-doubled",
        [
            CreateTopic("t", 4),
            Join("a", config={"group.instance.id": "same"}),
            AwaitOwned({"a": 4}),
            Join("b", config={"group.instance.id": "same"}),
            AwaitError("a", frozenset({"FENCED_INSTANCE_ID", "_FATAL"})),
            AwaitOwned({"b": 4}),
        ],
        frozenset({"fencing", "static"}),
    ),
    Scenario(
        "static-member-times-out",
        [
            CreateTopic("t", 4),
            Join("a", config={"group.instance.id": "a", "session.timeout.ms": "6000"}),
            Join("b", config={"group.instance.id": "b", "session.timeout.ms": "6000"}),
            AwaitOwned({"a": 2, "b": 2}),
            Leave("b"),
            AwaitOwned({"a": 4}),
            NotBefore("b", 3),
        ],
        STATIC_MEMBERS,
    ),
]

OFFSETS = [
    *[
        Scenario(
            f"commit-{mode}-and-return",
            [
                CreateTopic("t"),
                Produce("t", TEN),
                Join("a"),
                Drain("a", 10),
                Commit("a", mode=mode),
                CommittedIs("a", [("t", 0, 10)]),
                Leave("a"),
                Produce("t", [Record(b"later")]),
                Join("b"),
                NextRecordIs("b", 10),
                CommittedIs("b", [("t", 0, 10)]),
            ],
        )
        for mode in ("sync", "async")
    ],
    Scenario(
        "commit-a-chosen-offset",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Join("a"),
            Drain("a", 10),
            Commit("a", [("t", 0, 4)]),
            CommittedIs("a", [("t", 0, 4)]),
            Commit("a", [("t", 0, 6)], mode="async"),
            CommittedIs("a", [("t", 0, 6)]),
            Leave("a"),
            Join("b"),
            NextRecordIs("b", 6),
        ],
    ),
    Scenario(
        "commits-of-several-partitions",
        [
            CreateTopic("t", 4),
            Produce("t", SPREAD),
            Join("a"),
            Drain("a", 40),
            Commit("a", [("t", 0, 1), ("t", 1, 2), ("t", 3, 4)]),
            CommittedIs("a", [("t", 0, 1), ("t", 1, 2), ("t", 2, -1), ("t", 3, 4)]),
        ],
    ),
    Scenario(
        "nothing-committed",
        [CreateTopic("t"), Join("a"), AwaitOwned({"a": 1}, {"t": 1}), CommittedIs("a", [("t", 0, -1)])],
    ),
    Scenario(
        "seek-in-a-group",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Join("a"),
            Drain("a", 10),
            Seek("a", "t", 0, 3),
            NextRecordIs("a", 3),
        ],
    ),
    Scenario(
        "auto-commit-and-return",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Join("a", config={"enable.auto.commit": "true"}),
            Drain("a", 10),
            Leave("a"),
            Produce("t", [Record(b"later")]),
            Join("b"),
            NextRecordIs("b", 10),
        ],
    ),
    Scenario(
        "offsets-pass-to-the-next-owner",
        [
            CreateTopic("t", 4),
            Produce("t", SPREAD),
            Join("a", config={"enable.auto.commit": "true"}),
            AwaitReceived(["a"]),
            Join("b", config={"enable.auto.commit": "true"}),
            AwaitOwned({"a": 2, "b": 2}),
            Produce("t", SPREAD),
            AwaitReceived(["a", "b"]),
        ],
    ),
    Scenario(
        "no-offset-and-no-reset",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Join("a", config={"auto.offset.reset": "none"}),
            AwaitError("a", frozenset({"NO_OFFSET_AND_NO_RESET"})),
        ],
        frozenset({"no-reset"}),
    ),
    Scenario(
        "group-empty-after-the-last",
        [
            CreateTopic("t"),
            Join("a"),
            AwaitOwned({"a": 1}, {"t": 1}),
            Owns("a", [("t", 0)]),
            Leave("a"),
            GroupIs("EMPTY", 0),
        ],
    ),
]

SILENT_MS = 6000


def silent_member(context: Context) -> None:
    """A member whose last heartbeat is known to the moment is there for a session timeout after it, and then is not."""
    names = {"$group": context.name("g")}

    def ask(request: Request) -> Any:
        broker = context.broker
        (answer,) = context.driver().call(
            "wire", host=broker.host, port=broker.port, timeout_s=30, requests=[request.to_json(names)]
        )
        return answer["body"]

    def joined() -> bool:
        # The first look for a coordinator makes the internal topic; one that is still loading refuses, nothing else may.
        ask(find(0, "$group"))
        body = ask(join(3, sessionTimeoutMs=SILENT_MS))
        check(body["errorCode"] in (0, 14, 15, 16), f"joining is answered with error {body['errorCode']}")
        names["$member"] = body["memberId"]
        return body["errorCode"] == 0

    wait_until("the member to join", joined, 60)
    check_equal("error code of the assignment", ask(sync(2))["errorCode"], 0)
    beat = time.monotonic()
    check_equal("error code of the last heartbeat", ask(heartbeat(2))["errorCode"], 0)
    seen: list[tuple[float, str]] = []

    def given_up() -> bool:
        (group,) = ask(describe(5, "$group"))["groups"]
        seen.append((time.monotonic() - beat, group["groupState"]))
        return group["groupState"] == "Empty"

    wait_until("the silent member to be given up", given_up, 60, lambda: seen[-1])
    # The broker got the heartbeat no sooner than it was sent, and the answer came no sooner than it was given.
    check(seen[-1][0] >= SILENT_MS / 1000, f"given up {seen[-1][0]:.2f} s after its last heartbeat")
    check(any(state == "Stable" for _, state in seen), f"never seen as a member: {seen[0]}")
    context.note(f"given up after {seen[-1][0]:.2f} s of {SILENT_MS / 1000:g}")


SUITES = (
    Suite(
        "groups-classic",
        [*REBALANCES, *STATIC, *OFFSETS],
        side_by_side=True,
        ci=frozenset({"members-come-and-go-range", "commit-sync-and-return", "offsets-pass-to-the-next-owner"}),
    ),
    Suite("groups-classic", [Program("silent-member", silent_member)], clients=(WIRE,)),
)
