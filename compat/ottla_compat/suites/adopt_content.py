"""What is in a cluster before it is adopted: topics of every kind, transactions that ended and that did not, settings."""

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ..brokers import Broker
from ..driver import Driver
from ..failure import Failed, check_equal, shorten
from ..scenario import Context
from ..waiting import Deadline, wait_until

SECONDS = 60.0
GROUP = "readers"
# Clients whose groups read before and after a change of the broker.
READERS = ("java", "python")
# Its offsets are committed in transactions.
TRANSACTIONAL_GROUP = "transactional.readers"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
RECORDS = 300
# Of the topic that Kafka compacts: keys, records, bytes of each.
CLEANED_KEYS, CLEANED_RECORDS, CLEANED_BYTES = 8, 60, 100_000
A_DAY_MS = "86400000"

# Name, partitions, settings.
TOPICS: dict[str, tuple[int, dict[str, str]]] = {
    **{f"codec.{codec}": (2, {}) for codec in CODECS},
    "compacted": (1, {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.compaction.lag.ms": A_DAY_MS}),
    "cleaned": (1, {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0"}),
    "configured": (3, {"retention.ms": "-1", "max.message.bytes": "2000000", "compression.type": "zstd"}),
    "segments": (1, {"segment.bytes": "1048576", "retention.ms": "-1"}),
    "trimmed": (1, {"retention.ms": "-1"}),
    "transactional": (2, {"retention.ms": "-1"}),
    "left.open": (2, {"retention.ms": "-1"}),
    "empty": (4, {}),
}
SETTINGS: list[tuple[str, str, dict[str, str]]] = [
    ("broker", "", {"message.max.bytes": "1500000"}),
    ("broker", "1", {"log.cleaner.threads": "2"}),
    ("group", GROUP, {"consumer.session.timeout.ms": "50000"}),
    ("client_metrics", "watched", {"interval.ms": "30000", "metrics": "org.apache.kafka"}),
]


# Offset, kind and value of the timestamp, key, value, headers.
Row = tuple[int, int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


def consumer(bootstrap: str, **settings: Any) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            **settings,
        }
    )


def read(bootstrap: str, partitions: Iterable[tuple[str, int]], **settings: Any) -> dict[tuple[str, int], list[Row]]:
    """Every record from the first to the end."""
    rows: dict[tuple[str, int], list[Row]] = {partition: [] for partition in partitions}
    reader = consumer(bootstrap, **settings)
    try:
        reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in rows])
        left = set(rows)
        deadline = Deadline(SECONDS)
        while left:
            if deadline.passed():
                raise Failed(f"not read to the end: {shorten(sorted(left))}")
            message = reader.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise Failed(f"reading failed: {error}")
                left.discard((message.topic(), message.partition()))
                continue
            kind, timestamp = message.timestamp()
            headers = tuple(message.headers() or ())
            row = (message.offset(), kind, timestamp, message.key(), message.value(), headers)
            rows[message.topic(), message.partition()].append(row)
    finally:
        reader.close()
    return rows


def fill(context: Context, broker: Broker, *log_directories: Path) -> None:
    """Topics of every kind, records by every codec, transactions, a group, settings, a topic that is deleted."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    wanted = [
        NewTopic(name, partitions, 1, config=configs) for name, (partitions, configs) in TOPICS.items()
    ]
    for future in admin.create_topics([*wanted, NewTopic("deleted", 2, 1)], operation_timeout=SECONDS).values():
        future.result(SECONDS)
    chance = random.Random(context.options.seed)
    for codec in CODECS:
        produce(broker, f"codec.{codec}", RECORDS, chance, {"compression.type": codec, "linger.ms": 5})
    produce(broker, "compacted", RECORDS, chance, {}, keys=20)
    produce(broker, "configured", RECORDS, chance, {"compression.type": "lz4"})
    produce(broker, "segments", 40, chance, {"linger.ms": 0}, size=100_000)
    produce(broker, "trimmed", RECORDS, chance, {})
    produce(broker, "deleted", RECORDS, chance, {})
    produce(broker, "cleaned", CLEANED_RECORDS, chance, {"linger.ms": 0}, keys=CLEANED_KEYS, size=CLEANED_BYTES)
    transactions(broker, chance)
    commit(broker, [("left.open", 0, 2)], TRANSACTIONAL_GROUP)
    transaction_left_open(broker)
    (trimmed,) = admin.delete_records([TopicPartition("trimmed", 0, 100)]).values()
    trimmed.result(SECONDS)
    java = context.drivers.get("java", broker.bootstrap)
    for kind, name, settings in SETTINGS:
        ops = [["set", key, value] for key, value in settings.items()]
        java.call("incremental_alter_configs", kind=kind, name=name, ops=ops)
    commit(broker, [("codec.none", 0, 17), ("codec.none", 1, 5), ("configured", 2, 1), ("trimmed", 0, 150)])
    admin.delete_topics(["deleted"], operation_timeout=SECONDS)["deleted"].result(SECONDS)
    wait_until("the deleted topic to go", lambda: "deleted" not in java.call("metadata")["topics"], SECONDS)
    wait_compacted(broker, *(log_directories or (broker.data_directory,)))
    # It stays as it is from here on.
    set_topic_config(context, broker, "cleaned", "min.compaction.lag.ms", A_DAY_MS)


def set_topic_config(context: Context, broker: Broker, topic: str, key: str, value: str | None) -> None:
    java = context.drivers.get("java", broker.bootstrap)
    op = "delete" if value is None else "set"
    java.call("incremental_alter_configs", kind="topic", name=topic, ops=[[op, key, value]])


def wait_compacted(broker: Broker, *log_directories: Path) -> None:
    """Waits until the topic `cleaned` has a record for each key below its last segment, at most."""
    (partition,) = (found for directory in log_directories for found in directory.glob("cleaned-0"))

    def compacted() -> bool:
        last_segment = max(int(path.stem) for path in partition.glob("*.log"))
        rows = read(broker.bootstrap, [("cleaned", 0)])["cleaned", 0]
        below = [row for row in rows if row[0] < last_segment]
        return 0 < len(below) <= CLEANED_KEYS

    wait_until("the topic to be compacted", compacted, SECONDS)


def produce(
    broker: Broker,
    topic: str,
    count: int,
    chance: random.Random,
    settings: dict[str, Any],
    keys: int | None = None,
    size: int = 60,
) -> None:
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, **settings})

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(str(error))

    for number in range(count):
        key = b"key-%d" % (number % keys if keys else number)
        value = None if keys and number % 29 == 28 else b"%d " % number + chance.randbytes(size)
        headers: list[tuple[str, bytes | None]] = [("n", b"%d" % number), ("null", None)] if number % 7 == 0 else []
        timestamp = int(time.time() * 1000) - 1000 + number
        producer.produce(topic, value, key, headers=headers, timestamp=timestamp, on_delivery=delivered)
        producer.poll(0)
    check_equal(f"records of {topic} that were not delivered", producer.flush(SECONDS), 0)
    check_equal(f"failures of {topic}", failures, [])


def transactions(broker: Broker, chance: random.Random) -> None:
    """Some committed, some aborted, the last too; each with records, and with an offset of a group."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "adopted"})
    member = consumer(broker.bootstrap, **{"group.id": TRANSACTIONAL_GROUP})
    producer.init_transactions(SECONDS)
    for number in range(8):
        producer.begin_transaction()
        for place in range(10):
            producer.produce("transactional", chance.randbytes(40), b"%d" % place)
        committed = TopicPartition("transactional", 0, 10 * number + 10)
        producer.send_offsets_to_transaction([committed], member.consumer_group_metadata(), SECONDS)
        if number % 3 == 1:
            producer.flush(SECONDS)
            producer.abort_transaction(SECONDS)
        else:
            producer.commit_transaction(SECONDS)
    member.close()


def transaction_left_open(broker: Broker) -> None:
    """Records and offsets of a transaction that nobody ends while Kafka runs."""
    settings = {"transactional.id": "left-open", "transaction.timeout.ms": 900_000}
    producer = Producer({"bootstrap.servers": broker.bootstrap, **settings})
    member = consumer(broker.bootstrap, **{"group.id": TRANSACTIONAL_GROUP})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    for place in range(10):
        producer.produce("left.open", b"%d" % place, partition=place % 2)
    pending = [TopicPartition("left.open", 0, 4), TopicPartition("left.open", 1, 5)]
    producer.send_offsets_to_transaction(pending, member.consumer_group_metadata(), SECONDS)
    check_equal("records that were not delivered", producer.flush(SECONDS), 0)
    member.close()


def commit(broker: Broker, offsets: list[tuple[str, int, int]], group: str = GROUP) -> None:
    committer = consumer(broker.bootstrap, **{"group.id": group})

    # The coordinator may still be loading.
    def committed() -> bool:
        try:
            committer.commit(
                offsets=[TopicPartition(*each) for each in offsets], asynchronous=False
            )
        except KafkaException:
            return False
        return True

    wait_until("offsets to be committed", committed, SECONDS)
    committer.close()


def read_on(context: Context, broker: Broker, topic: str, count: int) -> None:
    """A group of each client goes on where it was: it gets so many records, the very next ones, and commits."""
    for client in READERS:
        driver, group, got = context.drivers.get(client, broker.bootstrap), f"goes.on.{client}", dict[tuple[int, int], int]()
        committed = {tuple(each[:2]): each[2] for each in driver.call("group_offsets", group=group)}
        driver.call("consumer_open", id=group, group=group, topics=[topic], config={"enable.auto.commit": "false"})

        def taken(driver: Driver = driver, group: str = group, got: dict[tuple[int, int], int] = got) -> bool:
            for record in driver.call("consumer_take", id=group)["records"]:
                got[record["partition"], record["offset"]] = got.get((record["partition"], record["offset"]), 0) + 1
            return len(got) >= count

        try:
            wait_until(f"{count} records for a group of {client}", taken, SECONDS, lambda got=got: f"{len(got)} came")
            for partition in {partition for partition, _ in got}:
                first = min(offset for each, offset in got if each == partition)
                check_equal(f"where {client} goes on", first, committed.get((topic, partition), 0))
            check_equal(f"records {client} got twice", [place for place, times in got.items() if times > 1], [])
            driver.call("consumer_do", id=group, action="commit", mode="sync")
        finally:
            driver.call("consumer_close", id=group)


def create(broker: Broker, topics: dict[str, tuple[int, dict[str, str]]]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    wanted = [NewTopic(name, partitions, 1, config=configs) for name, (partitions, configs) in topics.items()]
    for future in admin.create_topics(wanted, operation_timeout=SECONDS).values():
        future.result(SECONDS)
