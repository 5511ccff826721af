"""Steps about consumer groups: members come and go, partitions move, offsets are committed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..failure import Failed, check, check_equal, shorten
from ..record import Received
from ..scenario import Context, Step
from ..waiting import wait_until

REBALANCE_SECONDS = 45.0
GROUP = frozenset({"group"})

# A member learns of a rebalance from the answer to a heartbeat; the default is one in three seconds.
QUICK_HEARTBEATS = {"heartbeat.interval.ms": "200", "session.timeout.ms": "10000"}


def state(context: Context, member: str) -> dict[str, Any]:
    process = context.members[member]
    found: dict[str, Any] = context.driver(process).call("consumer_state", id=context.name(member))
    return found


def owned(context: Context, member: str) -> set[tuple[str, int]]:
    return {(topic, partition) for topic, partition in state(context, member)["assignment"]}


@dataclass(frozen=True)
class Join(Step):
    """A member subscribes. `process` puts it into a driver process of its own, which can be killed."""

    member: str
    topics: Sequence[str] = ("t",)
    group: str = "g"
    config: Mapping[str, str] = field(default_factory=dict)
    process: str = "main"
    protocol: str | None = "classic"
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        driver = context.driver(self.process)
        config = {**QUICK_HEARTBEATS, **self.config}
        if self.protocol is not None and "group-protocol" in driver.capabilities:
            config["group.protocol"] = self.protocol
        driver.call(
            "consumer_open",
            id=context.name(self.member),
            group=context.name(self.group),
            topics=[context.name(topic) for topic in self.topics],
            config=config,
        )
        context.members[self.member] = self.process


@dataclass(frozen=True)
class AwaitOwned(Step):
    """The members own all partitions, none twice, so many each; which of them has more is not told."""

    counts: Mapping[str, int]
    topics: Mapping[str, int] = field(default_factory=lambda: {"t": 4})
    seconds: float = REBALANCE_SECONDS
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        everything = sorted(
            (context.name(topic), partition) for topic, count in self.topics.items() for partition in range(count)
        )
        seen: dict[str, set[tuple[str, int]]] = {}

        def settled() -> bool:
            seen.update({member: owned(context, member) for member in self.counts})
            together = sorted(partition for each in seen.values() for partition in each)
            sizes = sorted(len(each) for each in seen.values())
            return together == everything and sizes == sorted(self.counts.values())

        wait_until(f"partitions owned as {dict(self.counts)}", settled, self.seconds, lambda: shorten(seen))


@dataclass(frozen=True)
class NotBefore(Step):
    """What was just seen came no sooner than this after the member's end. Its last heartbeat is older than that end by
    an unknown time, so half a session timeout is asked for here; the suite's wire scenario knows its heartbeats."""

    member: str
    seconds: float
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        passed = time.monotonic() - context.remembered[f"end of {self.member}"]
        check(passed >= self.seconds, f"{self.member} was given up {passed:.1f} s after its end, not {self.seconds:g}")


@dataclass(frozen=True)
class Owns(Step):
    """The member owns just these partitions."""

    member: str
    partitions: Sequence[tuple[str, int]]
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        expected = {(context.name(topic), partition) for topic, partition in self.partitions}
        check_equal(f"partitions of {self.member}", owned(context, self.member), expected)


@dataclass(frozen=True)
class Leave(Step):
    member: str
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        process = context.members.pop(self.member)
        context.remembered[f"end of {self.member}"] = time.monotonic()
        context.driver(process).call("consumer_close", id=context.name(self.member))


@dataclass(frozen=True)
class Kill(Step):
    """kill -9 of the member's process: no farewell reaches the group."""

    member: str
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        process = context.members.pop(self.member)
        check(process != "main", "a member that is killed needs a process of its own")
        context.remembered[f"end of {self.member}"] = time.monotonic()
        context.drivers.kill(context.client, context.broker.bootstrap, process)


@dataclass(frozen=True)
class MarkHistory(Step):
    """Later steps look at what happened after this moment."""

    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        for member in context.members:
            context.remembered[f"history of {member}"] = len(state(context, member)["history"])


def since_mark(context: Context, member: str) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = state(context, member)["history"]
    return history[context.remembered.get(f"history of {member}", 0) :]


@dataclass(frozen=True)
class NothingHappened(Step):
    """No rebalance reached the members since the mark."""

    members: Sequence[str]
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        for member in self.members:
            check_equal(f"events of {member} since the mark", since_mark(context, member), [])


@dataclass(frozen=True)
class GaveUp(Step):
    """Since the mark the member gave up so many partitions in all: cooperative rebalances leave the others alone."""

    member: str
    partitions: int
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        events = since_mark(context, self.member)
        lost = [partition for event in events if event["event"] != "assigned" for partition in event["partitions"]]
        check_equal(f"partitions {self.member} gave up ({shorten(events)})", len(lost), self.partitions)


@dataclass(frozen=True)
class AwaitReceived(Step):
    """The members together got every record of the topic, none twice."""

    members: Sequence[str]
    topic: str = "t"
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        expected = sorted(
            (partition, record.value)
            for partition, records in context.journal[self.topic].items()
            for record in records
        )
        got: list[tuple[int, bytes | None]] = context.remembered.setdefault(f"received of {self.topic}", [])

        def all_here() -> bool:
            for member in self.members:
                taken = context.driver(context.members[member]).call("consumer_take", id=context.name(member))
                got.extend((each.partition, each.value) for each in map(Received.from_json, taken["records"]))
            return len(got) >= len(expected)

        wait_until(f"{len(expected)} records", all_here, REBALANCE_SECONDS, lambda: f"{len(got)} records")
        check_equal("records received", sorted(got), expected)


@dataclass(frozen=True)
class Commit(Step):
    member: str
    offsets: Sequence[tuple[str, int, int]] | None = None
    mode: str = "sync"
    needs: ClassVar[frozenset[str]] = frozenset({"group", "commit"})

    def run(self, context: Context) -> None:
        offsets = None
        if self.offsets is not None:
            offsets = [[context.name(topic), partition, offset] for topic, partition, offset in self.offsets]
        act(context, self.member, "commit", mode=self.mode, offsets=offsets)


@dataclass(frozen=True)
class CommittedIs(Step):
    """What the group has committed, seen by a member; waits, since some commits are asynchronous."""

    member: str
    expected: Sequence[tuple[str, int, int]]
    needs: ClassVar[frozenset[str]] = frozenset({"group", "commit"})

    def run(self, context: Context) -> None:
        expected = [[context.name(topic), partition, offset] for topic, partition, offset in self.expected]
        asked = [[topic, partition] for topic, partition, _ in expected]
        found: list[Any] = []

        def same() -> bool:
            found[:] = act(context, self.member, "committed", partitions=asked)
            return found == expected

        wait_until(f"committed offsets {expected}", same, 20, lambda: shorten(found))


@dataclass(frozen=True)
class Seek(Step):
    member: str
    topic: str
    partition: int
    offset: int
    needs: ClassVar[frozenset[str]] = frozenset({"group", "seek"})

    def run(self, context: Context) -> None:
        name = context.name(self.topic)
        act(context, self.member, "seek", topic=name, partition=self.partition, offset=self.offset)


@dataclass(frozen=True)
class NextRecordIs(Step):
    """The next record the member gets from the partition has this offset. Drains what came before."""

    member: str
    offset: int
    partition: int = 0
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        got: list[Received] = []

        def arrived() -> bool:
            driver = context.driver(context.members[self.member])
            taken = driver.call("consumer_take", id=context.name(self.member))["records"]
            got.extend(each for each in map(Received.from_json, taken) if each.partition == self.partition)
            return bool(got)

        wait_until("a record", arrived, REBALANCE_SECONDS)
        check_equal("offset of the first record", got[0].offset, self.offset)


@dataclass(frozen=True)
class Drain(Step):
    """Waits until the member has got so many records in all and forgets them."""

    member: str
    received: int
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        wait_until(
            f"{self.received} records",
            lambda: state(context, self.member)["received"] >= self.received,
            REBALANCE_SECONDS,
            lambda: shorten(state(context, self.member)),
        )
        context.driver(context.members[self.member]).call("consumer_take", id=context.name(self.member))


@dataclass(frozen=True)
class GroupIs(Step):
    """What admins see of the group."""

    state: str
    members: int
    assignor: str | None = None
    group: str = "g"
    # Off where members may not have heard of their assignment yet.
    compare_assignments: bool = True
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        group = context.name(self.group)
        admin = context.admin()
        found: dict[str, Any] = {}

        def same() -> bool:
            found.clear()
            found.update(admin.call("describe_group", group=group))
            listed = {each["group"]: each["state"] for each in admin.call("list_groups")}
            found["listed"] = listed.get(group)
            members = len(found["members"])
            return found["state"] == self.state and members == self.members and found["listed"] == self.state

        wait_until(
            f"the group {self.state} with {self.members} members", same, REBALANCE_SECONDS, lambda: shorten(found)
        )
        if self.assignor is not None:
            check_equal("assignor", found["assignor"], self.assignor)
        seen = {member: sorted(map(list, owned(context, member))) for member in context.members}
        described = sorted(member["partitions"] for member in found["members"])
        if self.compare_assignments and self.members == len(context.members):
            check_equal("assignments seen by the admin", described, sorted(seen.values()))


@dataclass(frozen=True)
class NoErrors(Step):
    members: Sequence[str]
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        for member in self.members:
            check_equal(f"errors of {member}", state(context, member)["errors"], [])


@dataclass(frozen=True)
class AwaitError(Step):
    member: str
    errors: frozenset[str]
    needs: ClassVar[frozenset[str]] = GROUP

    def run(self, context: Context) -> None:
        def reported() -> bool:
            return bool(self.errors & set(state(context, self.member)["errors"]))

        wait_until(
            f"one of {sorted(self.errors)}", reported, REBALANCE_SECONDS, lambda: shorten(state(context, self.member))
        )


def act(context: Context, member: str, action: str, **args: Any) -> Any:
    process = context.members.get(member)
    if process is None:
        raise Failed(f"{member} is not a member now")
    return context.driver(process).call("consumer_do", id=context.name(member), action=action, **args)
