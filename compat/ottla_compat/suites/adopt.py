"""Directories of Apache Kafka's, adopted: every record, offset, id and setting as it was; and the way back to Kafka."""

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
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
from ..waiting import wait_until
from .adopt_content import (
    A_DAY_MS,
    CLEANED_BYTES,
    CLEANED_KEYS,
    CLEANED_RECORDS,
    GROUP,
    RECORDS,
    SECONDS,
    SETTINGS,
    TOPICS,
    TRANSACTIONAL_GROUP,
    Row,
    commit,
    consumer,
    create,
    fill,
    produce,
    read,
    read_on,
    set_topic_config,
    wait_compacted,
)
from .restart import REFUSAL_SECONDS, tree_hash

MIGRATION = REPOSITORY / "docs" / "migration.md"
TRANSACTIONAL = ("transactional", "left.open")
UNSTABLE_OFFSET_COMMIT = 88


@dataclass
class Seen:
    """What clients see of a cluster."""

    cluster_id: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    # Per topic and partition: the offsets there are, and every record.
    offsets: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    records: dict[tuple[str, int], list[Row]] = field(default_factory=dict)
    # Of topics with transactions: every record a consumer that reads what is committed is given.
    read_committed: dict[tuple[str, int], list[Row]] = field(default_factory=dict)
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    # By group.
    committed: dict[str, Any] = field(default_factory=dict)
    # Of the group that commits in transactions, when stable offsets are asked for: offset and error.
    stable: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def count(self) -> int:
        return sum(len(rows) for rows in self.records.values())

    def compare(self, now: "Seen") -> None:
        """Each difference has its place named."""
        check_equal("cluster id", now.cluster_id, self.cluster_id)
        check_equal("topic ids", now.ids, self.ids)
        for partition, offsets in self.offsets.items():
            check_equal(f"first and last offset of {partition}", now.offsets.get(partition), offsets)
        compare_records("records", self.records, now.records)
        check_equal("settings", now.configs, self.configs)
        check_equal("committed offsets", now.committed, self.committed)
        check_equal("stable offsets", now.stable, self.stable)
        compare_records("committed records", self.read_committed, now.read_committed)


def compare_records(
    what: str, before: dict[tuple[str, int], list[Row]], now: dict[tuple[str, int], list[Row]]
) -> None:
    for partition, rows in before.items():
        found = now.get(partition, [])
        if found != rows:
            at = next((place for place, pair in enumerate(zip(rows, found, strict=False)) if pair[0] != pair[1]), -1)
            raise Failed(f"{what} of {partition}: {len(rows)} before, {len(found)} now, first difference at {at}")


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
        seen.offsets[topic, number] = log_offsets(watcher, topic, number)
    watcher.close()
    seen.records = read(broker.bootstrap, partitions)
    if resources:
        for kind, name, _ in SETTINGS:
            entries = java.call("config_entries", kind=kind, name=name)
            seen.configs[f"{kind} {name}"] = set_on(entries, "DYNAMIC_")
    seen.committed = {group: java.call("group_offsets", group=group) for group in (GROUP, TRANSACTIONAL_GROUP)}
    transactional = [each for each in partitions if each[0] in TRANSACTIONAL]
    if transactional:
        seen.read_committed = read(broker.bootstrap, transactional, **{"isolation.level": "read_committed"})
        seen.stable = stable_offsets(context, broker, transactional)
    return seen


def log_offsets(watcher: Consumer, topic: str, number: int) -> tuple[int, int]:
    """Where the log begins and ends. A broker that has just started may not lead yet what its metadata says it leads."""

    def asked() -> tuple[int, int] | None:
        try:
            return watcher.get_watermark_offsets(TopicPartition(topic, number), timeout=SECONDS)
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE):
                raise
            return None

    return wait_until(f"{topic}-{number} to be led", asked, SECONDS)


def stable_offsets(
    context: Context, broker: Broker, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], tuple[int, int]]:
    """Clients would ask again as long as one is not stable."""
    topics = [{"name": topic, "partitionIndexes": [number]} for topic, number in partitions]
    body = {"groups": [{"groupId": TRANSACTIONAL_GROUP, "topics": topics}], "requireStable": True}
    java = context.drivers.get("java", broker.bootstrap)
    request = {"api": "OFFSET_FETCH", "version": 8, "body": body}
    (answer,) = java.call("wire", host=broker.host, port=broker.port, timeout_s=15.0, requests=[request])
    (group,) = answer["body"]["groups"]
    check_equal("error", group["errorCode"], 0)
    return {
        (topic["name"], each["partitionIndex"]): (each["committedOffset"], each["errorCode"])
        for topic in group["topics"]
        for each in topic["partitions"]
    }


def set_on(entries: dict[str, Any], source: str) -> dict[str, str]:
    return {key: entry["value"] for key, entry in sorted(entries.items()) if entry["source"].startswith(source)}


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


def verified(context: Context, data: Path) -> None:
    """Nothing that Kafka left is taken for damage. After a stop in order each log ends at its recovery point."""
    assert isinstance(context.factory, OttlaFactory)
    command = [str(context.factory.binary()), "log", "verify", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    check_equal(f"exit code of log verify ({shorten(done.stdout)}{done.stderr})", done.returncode, 0)


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
    return factory.create(context.directory / name, {"log.cleaner.backoff.ms": "100", **(settings or {})})


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
            check_transactions(before)
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
        ottla.start({"data-dir": str(data), "log.cleaner.backoff.ms": "100"})
        goes_on(context, ottla, before, data)
        back_in_place(context, ottla, kafka)

    return body


def check_transactions(seen: Seen) -> None:
    """What is compared later is what it is meant to be."""
    committed = seen.read_committed
    check_equal("committed records", sum(len(rows) for rows in committed.values()), 50)
    check_equal("of the open transaction", committed["left.open", 0] + committed["left.open", 1], [])
    check_equal(
        "stable offsets",
        seen.stable,
        {
            ("transactional", 0): (70, 0),
            ("transactional", 1): (-1, 0),
            ("left.open", 0): (-1, UNSTABLE_OFFSET_COMMIT),
            ("left.open", 1): (-1, UNSTABLE_OFFSET_COMMIT),
        },
    )
    check_equal(
        "offsets",
        sorted(seen.committed[TRANSACTIONAL_GROUP]),
        [["left.open", 0, 2], ["transactional", 0, 70]],
    )


def goes_on(context: Context, ottla: Broker, before: Seen, data: Path) -> None:
    """What was adopted takes new records, with producer ids nobody has, new offsets of groups and new settings."""
    produce(ottla, "codec.zstd", 50, random.Random(1), {"compression.type": "zstd"})
    produce(ottla, "segments", 20, random.Random(2), {"linger.ms": 0}, size=100_000)
    commit(ottla, [("codec.none", 0, 30)])
    now = look(context, ottla, TOPICS)
    for partition, rows in before.records.items():
        check_equal(f"the first records of {partition}", now.records[partition][: len(rows)], rows)
    check_equal("new records", now.count() - before.count(), 70)
    read_on(context, ottla, "codec.zstd", len(now.records["codec.zstd", 0]) + len(now.records["codec.zstd", 1]))
    java = context.drivers.get("java", ottla.bootstrap)
    set_topic_config(context, ottla, "empty", "retention.ms", "1234567")
    check_equal(
        "a new setting",
        set_on(java.call("config_entries", kind="topic", name="empty"), "DYNAMIC_TOPIC_CONFIG"),
        {"retention.ms": "1234567"},
    )
    set_topic_config(context, ottla, "empty", "retention.ms", None)
    # Compacted by Kafka, written to here, compacted here.
    produce(ottla, "cleaned", CLEANED_RECORDS, random.Random(4), {"linger.ms": 0}, CLEANED_KEYS, CLEANED_BYTES)
    set_topic_config(context, ottla, "cleaned", "min.compaction.lag.ms", None)
    wait_compacted(ottla, data)
    set_topic_config(context, ottla, "cleaned", "min.compaction.lag.ms", A_DAY_MS)


def back_in_place(context: Context, ottla: Broker, kafka: Broker) -> None:
    """An adopted directory whose topics are still Kafka's: Kafka goes on with the records that came since."""
    now = look(context, ottla, TOPICS)
    context.drivers.close(ottla.bootstrap)
    stopped(ottla)
    data = kafka.data_directory
    run_documented(context, "the way back in place", KAFKA_DATA=data)
    run_documented(context, "the leader epochs", KAFKA_DATA=data)
    try:
        kafka.start()
        now.compare(look(context, kafka, TOPICS))
        # Kafka gives out producer ids that Ottla gave out, too.
        for topic in ("codec.zstd", "segments"):
            produce(kafka, topic, 10, random.Random(3), {})
        again = look(context, kafka, TOPICS)
        check_equal("new records", again.count() - now.count(), 20)
        # Who has seen the leader epochs of Ottla gets on with those of Kafka.
        read_on(context, kafka, "codec.zstd", 10)
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
    produce(ottla, "codec.zstd", 10, random.Random(5), {})
    read_on(context, ottla, "codec.zstd", 10)


def run_documented(context: Context, title: str, **places: Path) -> None:
    """Runs the commands of docs/migration.md that follow this mark."""
    commands = re.search(rf"<!-- {title} -->\s*```sh\n(.*?)```", MIGRATION.read_text(encoding="utf-8"), re.S)
    if commands is None:
        raise Failed(f"docs/migration.md has no commands under {title!r}")
    assert isinstance(context.factory, OttlaFactory)
    programs = context.directory / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "ottla").exists():
        (programs / "ottla").symlink_to(Path(context.factory.binary()).resolve())
    done = subprocess.run(
        ["sh", "-eu", "-c", commands[1]],
        env={"PATH": f"{programs}:/usr/bin:/bin", **{name: str(place) for name, place in places.items()}},
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
        fill(context, kafka, first, second)
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
    verified(context, kafka.data_directory)
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
    read_on(context, ottla, "codec.zstd", RECORDS)
    context.drivers.close(ottla.bootstrap)
    stopped(ottla)
    try:
        kafka.start()
        create(kafka, topics)
        offsets = {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"}
        create(kafka, {"__consumer_offsets": (50, offsets)})
        stopped(kafka)
        run_documented(context, "the way back", OTTLA_DATA=ottla.data_directory, KAFKA_DATA=kafka.data_directory)
        run_documented(context, "the leader epochs", KAFKA_DATA=kafka.data_directory)
        kafka.start()
        now = look(context, kafka, topics, resources=False)
        before.cluster_id, before.ids = now.cluster_id, now.ids
        before.compare(now)
        produce(kafka, "codec.zstd", 50, chance, {})
        again = look(context, kafka, topics, resources=False)
        check_equal("new records", again.count() - now.count(), 50)
        read_on(context, kafka, "codec.zstd", 50)
        context.note(f"{before.count()} records back under Kafka")
        stopped(kafka)
    finally:
        context.drivers.close(kafka.bootstrap)
        kafka.close()
    not_strays(kafka.data_directory)
    shutil.rmtree(kafka.data_directory)


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
    # Each starts an Apache Kafka: most are left to the full run.
    ci_more=frozenset({"credentials"}),
)
