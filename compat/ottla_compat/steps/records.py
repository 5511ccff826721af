"""Steps about topics and records: create, produce, read, ask for offsets."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..failure import ClientError, Failed, check, check_equal, shorten
from ..record import Received, Record
from ..scenario import Context, Step
from ..waiting import wait_until

READ_SECONDS = 40.0
CLOCK_SLACK_MS = 5000


@dataclass(frozen=True)
class Start:
    at: str
    value: int | None = None


BEGINNING = Start("beginning")
END = Start("end")


def at_offset(offset: int) -> Start:
    return Start("offset", offset)


def at_timestamp(timestamp: int) -> Start:
    return Start("timestamp", timestamp)


@dataclass(frozen=True)
class CreateTopic(Step):
    topic: str
    partitions: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    def run(self, context: Context) -> None:
        try:
            context.create_topic(self.topic, self.partitions, self.configs)
        except ClientError as error:
            check_equal("the error of creating the topic", error.name, self.error)
            return
        check_equal("the error of creating the topic", None, self.error)


@dataclass(frozen=True)
class DeleteTopic(Step):
    topic: str

    def run(self, context: Context) -> None:
        context.admin("delete_topic").call("delete_topic", name=context.name(self.topic))
        context.journal.pop(self.topic, None)

        def gone() -> bool:
            return context.name(self.topic) not in context.admin().call("metadata")["topics"]

        wait_until("the topic to be gone from metadata", gone, 20)


@dataclass(frozen=True)
class MetadataShows(Step):
    """The topic with so many partitions, each led by the broker that is talked to."""

    topic: str
    partitions: int

    def run(self, context: Context) -> None:
        name = context.name(self.topic)
        found: dict[str, Any] = {}

        def shown() -> bool:
            found.clear()
            try:
                found.update(context.driver().call("metadata", topic=name))
            except ClientError as error:
                # A new topic is not known everywhere at once.
                found.update({"error": error.name, "topics": {}})
            leaders = [each["leader"] for each in found["topics"].get(name, [])]
            return len(leaders) == self.partitions and all(leader >= 0 for leader in leaders)

        wait_until(f"{self.partitions} partitions with leaders", shown, 20, lambda: shorten(found))
        brokers = {each["id"]: (each["host"], each["port"]) for each in found["brokers"]}
        check_equal("brokers in metadata", list(brokers.values()), [(context.broker.host, context.broker.port)])
        for each in found["topics"][name]:
            check(each["leader"] in brokers, f"partition {each['partition']} is led by {each['leader']}, not a broker")
            check_equal(f"replicas of partition {each['partition']}", each["replicas"], [each["leader"]])


@dataclass(frozen=True)
class Produce(Step):
    """Every record is acknowledged, at the offsets that follow those before."""

    topic: str
    records: Sequence[Record]
    config: Mapping[str, str] = field(default_factory=dict)

    def run(self, context: Context) -> None:
        answer = context.driver().call(
            "produce",
            topic=context.name(self.topic),
            records=[record.to_json() for record in self.records],
            config=dict(self.config),
        )
        for record, result in zip(self.records, answer["results"], strict=True):
            if "error" in result:
                raise ClientError(result["error"], result["message"], "produce")
            journal = context.sent(self.topic, record.partition)
            knows_offset = "offsets-of-acks" in context.driver().capabilities and self.config.get("acks") != "0"
            if knows_offset:
                check_equal("the acknowledged offset", result["offset"], len(journal))
            check_equal("the acknowledged partition", result["partition"], record.partition)
            journal.append(record)


@dataclass(frozen=True)
class ProduceFails(Step):
    topic: str
    record: Record
    error: str
    config: Mapping[str, str] = field(default_factory=dict)

    def run(self, context: Context) -> None:
        answer = context.driver().call(
            "produce",
            topic=context.name(self.topic),
            records=[self.record.to_json()],
            config=dict(self.config),
        )
        (result,) = answer["results"]
        check("error" in result, f"the record was acknowledged: {result}")
        check_equal("the error of producing", result["error"], self.error)


@dataclass(frozen=True)
class Read(Step):
    """Exactly the journal's records from `first` to `last`, in order, with everything they carry."""

    topic: str
    start: Start = BEGINNING
    first: int = 0
    last: int | None = None
    partitions: Sequence[int] = (0,)
    # Without a count: up to the end of each partition.
    count: int | None = None
    timestamps: str = "CreateTime"
    config: Mapping[str, str] = field(default_factory=dict)
    # The client that reads, where it is not the one that wrote.
    by: str | None = None
    needs: ClassVar[frozenset[str]] = frozenset({"assign", "eof"})

    def run(self, context: Context) -> None:
        driver = context.driver(client=self.by)
        answer = driver.call(
            "read",
            topic=context.name(self.topic),
            partitions=list(self.partitions),
            start={"at": self.start.at, "value": self.start.value},
            count=self.count,
            config={"fetch.max.wait.ms": "100", **self.config},
            timeout_s=READ_SECONDS,
        )
        received = [Received.from_json(each) for each in answer["records"]]
        for partition in self.partitions:
            got = [each for each in received if each.partition == partition]
            sent = context.sent(self.topic, partition)[self.first : self.last]
            check_same_records(got, sent, self.first, self.timestamps, "empties" in driver.capabilities)
        if self.count is None:
            check_equal("partitions whose end was reported", answer["ended"], sorted(self.partitions))


@dataclass(frozen=True)
class ReadFails(Step):
    topic: str
    start: Start
    errors: frozenset[str]
    config: Mapping[str, str] = field(default_factory=dict)
    seconds: float = READ_SECONDS

    def run(self, context: Context) -> None:
        try:
            answer = context.driver().call(
                "read",
                topic=context.name(self.topic),
                partitions=[0],
                start={"at": self.start.at, "value": self.start.value},
                count=1,
                config=dict(self.config),
                timeout_s=self.seconds,
            )
        except ClientError as error:
            check(error.name in self.errors, f"expected one of {sorted(self.errors)}, got {error}")
            return
        raise Failed(f"reading succeeded: {shorten(answer)}")


@dataclass(frozen=True)
class OffsetsAre(Step):
    topic: str
    offset: int
    at: str
    timestamp: int | None = None
    partition: int = 0

    def run(self, context: Context) -> None:
        found = context.driver().call(
            "offsets", topic=context.name(self.topic), partition=self.partition, at=self.at, timestamp=self.timestamp
        )
        check_equal(f"the offset at {self.at} {self.timestamp or ''}", found, self.offset)


@dataclass(frozen=True)
class TopicConfigIs(Step):
    topic: str
    expected: Mapping[str, str]
    needs: ClassVar[frozenset[str]] = frozenset({"describe_configs"})

    def run(self, context: Context) -> None:
        found = context.driver().call("describe_configs", kind="topic", name=context.name(self.topic))
        check_equal("topic configuration", {key: found.get(key) for key in self.expected}, dict(self.expected))


@dataclass(frozen=True)
class ClusterIsDescribed(Step):
    needs: ClassVar[frozenset[str]] = frozenset({"describe_cluster", "describe_configs"})

    def run(self, context: Context) -> None:
        described = context.driver().call("describe_cluster")
        check(described["cluster_id"], "the cluster has no id")
        check_equal("number of nodes", len(described["nodes"]), 1)
        (node,) = described["nodes"]
        configs = context.driver().call("describe_configs", kind="broker", name=str(node))
        check_equal("node.id of the broker's configuration", configs.get("node.id"), str(node))


@dataclass(frozen=True)
class WakesWaitingConsumer(Step):
    """A consumer that waits at the end of a partition gets each new record at once, not at the end of its wait."""

    topic: str
    rounds: int = 15
    # A tenth of its wait: a loaded machine wakes a process late, too.
    median_ms: float = 500.0

    def run(self, context: Context) -> None:
        topic = context.name(self.topic)
        driver = context.driver()
        consumer = context.name("waiting")
        config = {"fetch.max.wait.ms": "5000", "fetch.min.bytes": "1"}
        driver.call("consumer_open", id=consumer, assign=[[topic, 0, -2]], config=config)
        since_sent, latencies = [], []
        try:
            for number in range(self.rounds):
                record = Record(b"wake %d" % number)
                answer = driver.call(
                    "produce", topic=topic, records=[record.to_json()], config={"linger.ms": "0", "acks": "all"}
                )
                received: list[dict[str, Any]] = wait_until(
                    f"record {number}",
                    lambda: driver.call("consumer_take", id=consumer)["records"],
                    20,
                    interval_s=0.002,
                )
                (got,) = [Received.from_json(each) for each in received]
                check_equal("value", got.value, record.value)
                since_sent.append((got.arrived_ns - answer["sent_ns"]) / 1e6)
                # What counts: kcat is started for each record, which is none of the broker's time.
                latencies.append((got.arrived_ns - answer["acked_ns"]) / 1e6)
        finally:
            driver.call("consumer_close", id=consumer)
        median = statistics.median(latencies)
        sent = statistics.median(since_sent)
        context.note(f"median {sent:.1f} ms from send to arrival, {median:.1f} ms after its acknowledgement")
        check(median < self.median_ms, f"median {median:.1f} ms after its acknowledgement; all: {latencies}")


def check_same_records(
    received: Sequence[Received], sent: Sequence[Record], first_offset: int, timestamps: str, empties: bool
) -> None:
    """`empties`: whether the client tells what is empty from what is null."""

    def seen(data: bytes | None) -> bytes | None:
        return data if empties else data or None

    check_equal("number of records", len(received), len(sent))
    now_ms = time.time() * 1000
    for index, (got, expected) in enumerate(zip(received, sent, strict=True)):
        where = f"record {first_offset + index}"
        check_equal(f"{where}: offset", got.offset, first_offset + index)
        check_equal(f"{where}: key", seen(got.key), seen(expected.key))
        check_equal(f"{where}: value", seen(got.value), seen(expected.value))
        headers = [(name, seen(value)) for name, value in expected.headers]
        check_equal(f"{where}: headers", [(name, seen(value)) for name, value in got.headers], headers)
        if got.timestamp_type is not None:
            check_equal(f"{where}: timestamp type", got.timestamp_type, timestamps)
        if timestamps == "CreateTime" and expected.timestamp is not None:
            check_equal(f"{where}: timestamp", got.timestamp, expected.timestamp)
        else:
            check(
                got.timestamp is not None and abs(now_ms - got.timestamp) < 10 * 60_000 + CLOCK_SLACK_MS,
                f"{where}: timestamp {got.timestamp} is not of this run (now {now_ms:.0f})",
            )
