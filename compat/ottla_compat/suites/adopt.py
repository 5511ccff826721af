"""Directories of Apache Kafka's, adopted: every record, offset, id and setting as it was; and the way back to Kafka."""

import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from ..brokers import Broker, KafkaFactory, OttlaFactory
from ..failure import Failed, check, check_equal, shorten
from ..paths import REPOSITORY
from ..scenario import Context, Program, Suite
from ..waiting import Deadline, wait_until
from .restart import REFUSAL_SECONDS, tree_hash

SECONDS = 60.0
GROUP = "readers"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
RECORDS = 300
MIGRATION = REPOSITORY / "docs" / "migration.md"

# Name, partitions, settings.
TOPICS: dict[str, tuple[int, dict[str, str]]] = {
    **{f"codec.{codec}": (2, {}) for codec in CODECS},
    "compacted": (1, {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.compaction.lag.ms": "86400000"}),
    "configured": (3, {"retention.ms": "-1", "max.message.bytes": "2000000", "compression.type": "zstd"}),
    "segments": (1, {"segment.bytes": "1048576", "retention.ms": "-1"}),
    "trimmed": (1, {"retention.ms": "-1"}),
    "transactional": (2, {"retention.ms": "-1"}),
    "empty": (4, {}),
}
SETTINGS: list[tuple[str, str, dict[str, str]]] = [
    ("broker", "", {"message.max.bytes": "1500000"}),
    ("broker", "1", {"log.cleaner.threads": "2"}),
    ("group", GROUP, {"consumer.session.timeout.ms": "50000"}),
    ("client_metrics", "watched", {"interval.ms": "30000", "metrics": "org.apache.kafka"}),
]

Row = tuple[int, int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


@dataclass
class Seen:
    """What clients see of a cluster."""

    cluster_id: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    # Per topic and partition: the offsets there are, and every record.
    offsets: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    records: dict[tuple[str, int], list[Row]] = field(default_factory=dict)
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    committed: list[Any] = field(default_factory=list)

    def count(self) -> int:
        return sum(len(rows) for rows in self.records.values())

    def compare(self, now: "Seen") -> None:
        """Each difference has its place named."""
        check_equal("cluster id", now.cluster_id, self.cluster_id)
        check_equal("topic ids", now.ids, self.ids)
        for partition, offsets in self.offsets.items():
            check_equal(f"first and last offset of {partition}", now.offsets.get(partition), offsets)
        for partition, rows in self.records.items():
            found = now.records.get(partition, [])
            if found != rows:
                at = next((place for place, pair in enumerate(zip(rows, found, strict=False)) if pair[0] != pair[1]), -1)
                raise Failed(f"records of {partition}: {len(rows)} before, {len(found)} now, first difference at {at}")
        check_equal("settings", now.configs, self.configs)
        check_equal("committed offsets", now.committed, self.committed)


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


def look(context: Context, broker: Broker, topics: Iterable[str], resources: bool = True) -> Seen:
    java = context.drivers.get("java", broker.bootstrap)
    seen = Seen(cluster_id=java.call("describe_cluster")["cluster_id"])
    metadata = java.call("metadata")["topics"]
    partitions = []
    for topic in topics:
        check(topic in metadata, f"topic {topic} is missing; there are {shorten(sorted(metadata))}")
        seen.ids[topic] = java.call("topic_id", name=topic)
        partitions += [(topic, number) for number in range(len(metadata[topic]))]
        entries = java.call("config_entries", kind="topic", name=topic)
        seen.configs[f"topic {topic}"] = set_on(entries, "DYNAMIC_TOPIC_CONFIG")
    watcher = consumer(broker.bootstrap)
    for topic, number in partitions:
        seen.offsets[topic, number] = watcher.get_watermark_offsets(TopicPartition(topic, number), timeout=SECONDS)
    watcher.close()
    seen.records = read(broker.bootstrap, partitions)
    if resources:
        for kind, name, _ in SETTINGS:
            entries = java.call("config_entries", kind=kind, name=name)
            seen.configs[f"{kind} {name}"] = set_on(entries, "DYNAMIC_")
    seen.committed = java.call("group_offsets", group=GROUP)
    return seen


def set_on(entries: dict[str, Any], source: str) -> dict[str, str]:
    return {key: entry["value"] for key, entry in sorted(entries.items()) if entry["source"].startswith(source)}


# What is in the cluster


def fill(context: Context, broker: Broker) -> None:
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
    transactions(broker, chance)
    (trimmed,) = admin.delete_records([TopicPartition("trimmed", 0, 100)]).values()
    trimmed.result(SECONDS)
    java = context.drivers.get("java", broker.bootstrap)
    for kind, name, settings in SETTINGS:
        ops = [["set", key, value] for key, value in settings.items()]
        java.call("incremental_alter_configs", kind=kind, name=name, ops=ops)
    commit(broker, [("codec.none", 0, 17), ("codec.none", 1, 5), ("configured", 2, 1), ("trimmed", 0, 150)])
    admin.delete_topics(["deleted"], operation_timeout=SECONDS)["deleted"].result(SECONDS)
    wait_until("the deleted topic to go", lambda: "deleted" not in java.call("metadata")["topics"], SECONDS)


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
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "adopted"})
    producer.init_transactions(SECONDS)
    for number in range(6):
        producer.begin_transaction()
        for place in range(10):
            producer.produce("transactional", chance.randbytes(40), b"%d" % place)
        if number % 3 == 1:
            producer.flush(SECONDS)
            producer.abort_transaction(SECONDS)
        else:
            producer.commit_transaction(SECONDS)


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


# Adopting


def adopt(context: Context, directories: Iterable[Path], *options: str, code: int = 0) -> dict[str, Any]:
    """The report of `ottla log adopt`."""
    done = run_adopt(context, directories, "--json", *options)
    check_equal(f"exit code ({done.stdout[-600:]}{done.stderr})", done.returncode, code)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def run_adopt(context: Context, directories: Iterable[Path], *options: str) -> subprocess.CompletedProcess[str]:
    assert isinstance(context.factory, OttlaFactory)
    command = [str(context.factory.binary()), "log", "adopt", *map(str, directories), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


def refused_start(context: Context, data: Path, named: str) -> None:
    broker = context.broker
    before = tree_hash(data)
    log_start = broker.log_size()
    broker.launch({"data-dir": str(data)})
    check_equal("exit code", broker.wait_exit(REFUSAL_SECONDS), 1)
    words = broker.log_tail(40, log_start)
    check(re.search(named, words), f"the error does not name {named!r}:\n{words}")
    check_equal("what is on disk", tree_hash(data), before)


def kafka_of(context: Context, name: str = "kafka", settings: dict[str, str] | None = None) -> Broker:
    factory = KafkaFactory()
    factory.prepare()
    return factory.create(context.directory / name, settings)


def taken_over(stop: Callable[[Broker], Any], may_be_unclean: bool) -> Callable[[Context], None]:
    def body(context: Context) -> None:
        kafka = kafka_of(context)
        try:
            kafka.start()
            fill(context, kafka)
            in_use = run_adopt(context, [kafka.data_directory])
            check_equal("exit code while Kafka runs", in_use.returncode, 1)
            check("in use by another process" in in_use.stderr, in_use.stderr)
            before = look(context, kafka, TOPICS)
            check(before.count() > 7 * RECORDS, f"too little to mean anything: {before.count()}")
            stop(kafka)
        finally:
            context.drivers.close(kafka.bootstrap)
            kafka.close()
        data = kafka.data_directory
        refused_start(context, data, "ottla log adopt")
        untouched = tree_hash(data)
        planned = adopt(context, [data])
        check_equal("state", planned["state"], "adoptable")
        check_equal("stopped cleanly", planned["stopped_cleanly"], not may_be_unclean)
        check_equal("what a look changes", tree_hash(data), untouched)
        check_equal("state", adopt(context, [data], "--execute")["state"], "adopted")
        check_equal("state", adopt(context, [data], "--execute")["state"], "adopted_before")
        context.note(f"{before.count()} records, {len(before.offsets)} partitions")

        ottla = context.broker
        for _ in range(2):
            ottla.start({"data-dir": str(data)})
            before.compare(look(context, ottla, TOPICS))
            strays = [path.name for path in data.iterdir() if path.name.endswith("-stray") and "deleted" not in path.name]
            check_equal("directories set aside", strays, [])
            context.drivers.close(ottla.bootstrap)
            ottla.stop()
        ottla.start({"data-dir": str(data)})
        goes_on(context, ottla, before)
        back_in_place(context, ottla, kafka)

    return body


def goes_on(context: Context, ottla: Broker, before: Seen) -> None:
    """What was adopted takes new records, with producer ids nobody has, new offsets of groups and new settings."""
    produce(ottla, "codec.zstd", 50, random.Random(1), {"compression.type": "zstd"})
    produce(ottla, "segments", 20, random.Random(2), {"linger.ms": 0}, size=100_000)
    commit(ottla, [("codec.none", 0, 30)])
    now = look(context, ottla, TOPICS)
    for partition, rows in before.records.items():
        check_equal(f"the first records of {partition}", now.records[partition][: len(rows)], rows)
    check_equal("new records", now.count() - before.count(), 70)
    java = context.drivers.get("java", ottla.bootstrap)
    java.call("incremental_alter_configs", kind="topic", name="empty", ops=[["set", "retention.ms", "1234567"]])
    check_equal(
        "a new setting",
        set_on(java.call("config_entries", kind="topic", name="empty"), "DYNAMIC_TOPIC_CONFIG"),
        {"retention.ms": "1234567"},
    )
    java.call("incremental_alter_configs", kind="topic", name="empty", ops=[["delete", "retention.ms", None]])


def back_in_place(context: Context, ottla: Broker, kafka: Broker) -> None:
    """An adopted directory whose topics are still Kafka's: Kafka goes on with the records that came since."""
    now = look(context, ottla, TOPICS)
    context.drivers.close(ottla.bootstrap)
    stopped(ottla)
    data = kafka.data_directory
    run_documented("the way back in place", KAFKA_DATA=data)
    try:
        kafka.start()
        now.compare(look(context, kafka, TOPICS))
        # Kafka gives out producer ids that Ottla gave out, too.
        for topic in ("codec.zstd", "segments"):
            produce(kafka, topic, 10, random.Random(3), {})
        again = look(context, kafka, TOPICS)
        check_equal("new records", again.count() - now.count(), 20)
        stopped(kafka)
    finally:
        context.drivers.close(kafka.bootstrap)
        kafka.close()
    now = again
    not_strays(data)
    data.with_name(f"{data.name}.ottla-metadata").rename(data / "ottla-metadata")
    refused_start(context, data, "has run on .* since it was adopted")
    (data / "ottla-metadata").rename(context.directory / "ottla-metadata.old")
    check_equal("state", adopt(context, [data], "--execute")["state"], "adopted")
    ottla.start({"data-dir": str(data)})
    now.compare(look(context, ottla, TOPICS))


def run_documented(title: str, **places: Path) -> None:
    """Runs the commands of docs/migration.md that follow this mark."""
    commands = re.search(rf"<!-- {title} -->\s*```sh\n(.*?)```", MIGRATION.read_text(encoding="utf-8"), re.S)
    if commands is None:
        raise Failed(f"docs/migration.md has no commands under {title!r}")
    done = subprocess.run(
        ["sh", "-eu", "-c", commands[1]],
        env={"PATH": "/usr/bin:/bin", **{name: str(place) for name, place in places.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    check_equal(f"exit code of the commands ({done.stdout}{done.stderr})", done.returncode, 0)


def not_strays(data: Path) -> None:
    strays = [path.name for path in data.iterdir() if path.name.endswith("-stray") and "deleted" not in path.name]
    check_equal("directories that were set aside", strays, [])


def killed(broker: Broker) -> None:
    broker.kill()


def stopped(broker: Broker) -> None:
    code, _ = broker.stop()
    check(code in broker.clean_exit_codes, f"exit code {code}:\n{broker.log_tail()}")


def several_directories(context: Context) -> None:
    """Two log directories, and the metadata apart; one of them forgotten is noticed."""
    first, second, metadata = (context.directory / name for name in ("first", "second", "metadata"))
    places = {"log.dirs": f"{first},{second}", "metadata.log.dir": str(metadata)}
    kafka = kafka_of(context, settings=places)
    try:
        kafka.start()
        fill(context, kafka)
        before = look(context, kafka, TOPICS)
        stopped(kafka)
    finally:
        context.drivers.close(kafka.bootstrap)
        kafka.close()
    for each in (first, second):
        check(any(path.is_dir() for path in each.iterdir()), f"no partition in {each}")
    apart = ("--metadata-log-dir", str(metadata))
    forgotten = adopt(context, [first], *apart, code=1)
    check("missing_log_directories" in [each["kind"] for each in forgotten["refusals"]], shorten(forgotten["refusals"]))
    nothing = run_adopt(context, [first, second])
    check("there is no __cluster_metadata-0" in nothing.stderr, nothing.stderr)
    meta = second / "meta.properties"
    own = meta.read_text(encoding="ascii")
    meta.write_text(re.sub(r"cluster\.id=.*", "cluster.id=another", own), encoding="ascii")
    other = run_adopt(context, [first, second], *apart, "--execute")
    check("belongs to cluster another" in other.stderr, other.stderr)
    meta.write_text(own, encoding="ascii")
    check_equal("state", adopt(context, [first, second], *apart, "--execute")["state"], "adopted")
    ottla = context.broker
    ottla.start(places)
    before.compare(look(context, ottla, TOPICS))


def protected(context: Context) -> None:
    """Credentials are named and refused, and adopted without only when told so."""
    kafka = kafka_of(context)
    try:
        kafka.start()
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsert = UserScramCredentialUpsertion("alice", credential, b"secret")
        for future in admin.alter_user_scram_credentials([upsert]).values():
            future.result(SECONDS)
        stopped(kafka)
    finally:
        kafka.close()
    refused = adopt(context, [kafka.data_directory], "--execute", code=1)
    check_equal("refusals", [each["kind"] for each in refused["refusals"]], ["protected"])
    check_equal(
        "what is named",
        [each["text"] for each in refused["left_out"] if each["protects"]],
        ["SCRAM-SHA-512 credential of user 'alice'"],
    )
    check(not (kafka.data_directory / "ottla-metadata").exists(), "something was written")
    adopted = adopt(context, [kafka.data_directory], "--without-security", "--execute")
    check_equal("state", adopted["state"], "adopted")
    context.broker.start({"data-dir": str(kafka.data_directory)})


def last_byte_of_the_batch_at(log: bytes, position: int) -> int:
    """A byte of a record: the leader's epoch in a batch's head is covered by no checksum, and nothing depends on it."""
    end = 0
    while end <= position:
        end += 12 + int.from_bytes(log[end + 8 : end + 12])
    return end - 1


def damaged(context: Context) -> None:
    """A metadata log of Kafka's, cut: what a kill leaves is left out, what it cannot leave is refused."""
    kafka = kafka_of(context)
    try:
        kafka.start()
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([NewTopic("t", 3, 1)], operation_timeout=SECONDS)["t"].result(SECONDS)
        stopped(kafka)
    finally:
        kafka.close()
    data = kafka.data_directory
    segment = max((data / "__cluster_metadata-0").glob("*.log"))
    whole = segment.read_bytes()
    middle = last_byte_of_the_batch_at(whole, len(whole) // 2)
    flipped = bytes([*whole[:middle], whole[middle] ^ 1, *whole[middle + 1 :]])
    for content, clean in ((whole[:-3], True), (flipped, True), (flipped, False)):
        segment.write_bytes(content)
        mark = data / ".kafka_cleanshutdown"
        kept = mark.read_bytes()
        if not clean:
            mark.unlink()
        refused = run_adopt(context, [data], "--execute")
        check_equal("exit code", refused.returncode, 1)
        check(re.search(rf"{segment.name} is damaged at byte \d+", refused.stderr), refused.stderr)
        check(not (data / "ottla-metadata").exists(), "something was written")
        mark.write_bytes(kept)
    segment.write_bytes(whole[:-3])
    (data / ".kafka_cleanshutdown").unlink()
    report = adopt(context, [data])
    check(report["metadata"]["torn_bytes"] > 0, shorten(report["metadata"]))
    check_equal("topics", [topic["name"] for topic in report["topics"]], ["t"])


# The way back into a new directory


def way_back(context: Context) -> None:
    """Topics made in Kafka first, their ids written into what Ottla wrote: the commands of docs/migration.md."""
    topics = {name: TOPICS[name] for name in ("codec.zstd", "codec.snappy", "compacted", "configured", "segments")}
    ottla, kafka = context.broker, kafka_of(context)
    ottla.start()
    create(ottla, topics)
    chance = random.Random(context.options.seed)
    for name in topics:
        produce(ottla, name, RECORDS, chance, {"compression.type": name.removeprefix("codec.")} if "." in name else {})
    commit(ottla, [("codec.zstd", 0, 17), ("configured", 2, 1)])
    before = look(context, ottla, topics, resources=False)
    context.drivers.close(ottla.bootstrap)
    stopped(ottla)
    try:
        kafka.start()
        create(kafka, topics)
        offsets = {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"}
        create(kafka, {"__consumer_offsets": (50, offsets)})
        stopped(kafka)
        run_documented("the way back", OTTLA_DATA=ottla.data_directory, KAFKA_DATA=kafka.data_directory)
        kafka.start()
        now = look(context, kafka, topics, resources=False)
        before.cluster_id, before.ids = now.cluster_id, now.ids
        before.compare(now)
        produce(kafka, "codec.zstd", 50, chance, {})
        again = look(context, kafka, topics, resources=False)
        check_equal("new records", again.count() - now.count(), 50)
        context.note(f"{before.count()} records back under Kafka")
        stopped(kafka)
    finally:
        context.drivers.close(kafka.bootstrap)
        kafka.close()
    not_strays(kafka.data_directory)
    shutil.rmtree(kafka.data_directory)


def create(broker: Broker, topics: dict[str, tuple[int, dict[str, str]]]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    wanted = [NewTopic(name, partitions, 1, config=configs) for name, (partitions, configs) in topics.items()]
    for future in admin.create_topics(wanted, operation_timeout=SECONDS).values():
        future.result(SECONDS)


PROGRAMS = [
    Program("stopped-in-order", taken_over(stopped, may_be_unclean=False)),
    Program("killed", taken_over(killed, may_be_unclean=True)),
    Program("several-directories", several_directories),
    Program("credentials", protected),
    Program("damaged-metadata", damaged),
    Program("way-back", way_back),
]

SUITE = Suite(
    "adopt",
    PROGRAMS,
    clients=("python",),
    own_brokers=True,
    only_ottla=frozenset(program.name for program in PROGRAMS),
    # Each starts an Apache Kafka: left to the full run.
    ci_more=frozenset(),
)
