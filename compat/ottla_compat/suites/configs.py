"""Configurations: what DescribeConfigs tells of every key that both have, and changes that take effect at once and stay."""

import random
import struct
from collections.abc import Callable
from typing import Any

from ..failure import Failed, check, check_equal, difference
from ..record import Record
from ..scenario import WIRE, Context, Program, Suite
from ..steps.records import OffsetsAre, Produce, ProduceFails, Read
from ..waiting import wait_until
from ..wire import recorded
from ..wire.raw import connect

TOPIC, BROKER = 2, 4
# What a run or a machine decides.
OWN_VALUES = frozenset({"log.dirs", "log.dir", "listeners", "advertised.listeners", "node.id", "broker.id"})
# Apache Kafka starts only with these set: their sources tell of the configuration file.
KRAFT = frozenset(
    {"controller.listener.names", "controller.quorum.voters", "listener.security.protocol.map", "process.roles"}
)
ALTERING = frozenset({"assign", "eof", "incremental_alter_configs"})


def described(context: Context, kind: int, name: str) -> dict[str, Any]:
    request = {
        "api": "DESCRIBE_CONFIGS",
        "version": 4,
        "body": {
            "resources": [{"resourceType": kind, "resourceName": name, "configurationKeys": None}],
            "includeSynonyms": True,
            "includeDocumentation": True,
        },
    }
    broker = context.broker
    (answer,) = context.driver(client="java").call(
        "wire", host=broker.host, port=broker.port, timeout_s=30, requests=[request]
    )
    (result,) = answer["body"]["results"]
    check_equal("error code", result["errorCode"], 0)
    return {entry["name"]: entry_of(entry) for entry in result["configs"]}


def entry_of(entry: dict[str, Any]) -> dict[str, Any]:
    fields = {key: entry[key] for key in ("value", "readOnly", "configSource", "isSensitive", "configType")}
    fields["synonyms"] = [[each["name"], each["value"], each["source"]] for each in entry["synonyms"]]
    # The words are each broker's own.
    fields["documented"] = bool(entry["documentation"])
    if entry["name"] in OWN_VALUES:
        fields["value"] = "(own)"
        fields["synonyms"] = [[name, "(own)", source] for name, _, source in fields["synonyms"]]
    return fields


def expected_entries(resource: str) -> dict[str, Any]:
    """What Kafka described, with what is meant to differ: another answer, or none."""
    expected = {
        at: entry
        for at, entry in recorded.CONFIGS.answers().items()
        if at.startswith(f"{resource}/") and at.removeprefix(f"{resource}/") not in KRAFT
    }
    for at, meant in recorded.CONFIGS.differences().items():
        if not at.startswith(f"{resource}/"):
            continue
        if not meant.get("reason") or at not in expected or expected[at] == meant["answer"]:
            raise Failed(f"{at} is no difference: without a reason, unknown to Kafka, or just as with Kafka")
        expected[at] = meant["answer"]
    return {at: entry for at, entry in expected.items() if entry is not None}


def compared(kind: int, resource: str) -> Callable[[Context], None]:
    """Each key Kafka has: value, type, source, synonyms, read-only, sensitive, documented. Each difference has its
    reason, and a key that is not described is one."""

    def body(context: Context) -> None:
        name = "1" if kind == BROKER else context.create_topic("t", configs={"retention.ms": "1234567"})
        found = {f"{resource}/{key}": entry for key, entry in described(context, kind, name).items()}
        if context.options.record:
            for at, entry in found.items():
                recorded.CONFIGS.record(at, entry)
            return
        is_kafka = context.factory is not None and context.factory.name == "kafka"
        if is_kafka:
            expected = {at: each for at, each in recorded.CONFIGS.answers().items() if at.startswith(f"{resource}/")}
        else:
            expected = expected_entries(resource)
        wrong = []
        for at, entry in expected.items():
            wrong += [f"{at} is not described"] if at not in found else difference(entry, found[at], at)
        own = len(found.keys() - expected.keys())
        context.note(f"{len(expected)} keys compared, {own} of its own")
        if wrong:
            raise Failed("\n".join([*wrong[:40], f"{len(wrong)} differences in all"]))

    return body


def alter(context: Context, name: str, *ops: tuple[str, str, str | None], kind: str = "topic") -> None:
    context.driver().call("incremental_alter_configs", kind=kind, name=name, ops=[list(each) for each in ops])


def eventually(what: str, step: Callable[[], None]) -> None:
    """Apache Kafka's brokers hear of a change a moment after it was answered."""
    last: list[str] = []

    def works() -> bool:
        try:
            step()
        except Failed as error:
            last[:] = [str(error)]
            return False
        return True

    wait_until(what, works, 20, lambda: last)


# Noise: some clients compress unless told otherwise.
SMALL, LARGE = Record(b"s" * 100), Record(random.Random(1).randbytes(20_000))


def message_size(context: Context) -> None:
    context.broker.start()
    topic = context.create_topic("t")
    Produce("t", [LARGE]).run(context)
    alter(context, topic, ("set", "max.message.bytes", "10000"))
    eventually("the smaller limit", lambda: ProduceFails("t", LARGE, "MESSAGE_TOO_LARGE").run(context))
    context.broker.stop()
    context.broker.start()
    ProduceFails("t", LARGE, "MESSAGE_TOO_LARGE").run(context)
    alter(context, topic, ("delete", "max.message.bytes", None))
    eventually("the default again", lambda: Produce("t", [LARGE]).run(context))


def cluster_message_size(context: Context) -> None:
    """A default for the cluster reaches topics that say nothing themselves."""
    context.broker.start()
    context.create_topic("t")
    Produce("t", [LARGE]).run(context)
    alter(context, "", ("set", "message.max.bytes", "10000"), kind="broker")
    eventually("the smaller limit", lambda: ProduceFails("t", LARGE, "MESSAGE_TOO_LARGE").run(context))
    context.broker.stop()
    context.broker.start()
    ProduceFails("t", LARGE, "MESSAGE_TOO_LARGE").run(context)
    alter(context, "", ("delete", "message.max.bytes", None), kind="broker")
    eventually("the default again", lambda: Produce("t", [LARGE]).run(context))


def timestamp_type(context: Context) -> None:
    context.broker.start()
    topic = context.create_topic("t", configs={"retention.ms": "-1"})
    dated = [Record(b"dated", timestamp=1_700_000_000_000)]
    alter(context, topic, ("set", "message.timestamp.type", "LogAppendTime"))

    def stamped() -> None:
        Produce("t", dated).run(context)
        OffsetsAre("t", -1, "timestamp", 4_102_444_800_000).run(context)
        last = len(context.sent("t")) - 1
        found = context.driver().call("offsets", topic=topic, partition=0, at="timestamp", timestamp=1_700_000_000_001)
        check_equal("the first record with the broker's time", 0 <= found <= last, True)

    eventually("the broker's time", stamped)


def codec(context: Context) -> None:
    """What is stored is compressed as the topic says now."""
    context.broker.start()
    topic = context.create_topic("t")
    alter(context, topic, ("set", "compression.type", "zstd"))

    def compressed() -> None:
        Produce("t", [Record(b"text " * 400)], {"compression.type": "gzip"}).run(context)
        check_equal("codec of the last batch", stored_codecs(context, topic)[-1], 4)

    eventually("zstd", compressed)
    Read("t").run(context)
    context.broker.stop()
    context.broker.start()
    Produce("t", [Record(b"text " * 400)], {"compression.type": "gzip"}).run(context)
    check_equal("codec after a restart", stored_codecs(context, topic)[-1], 4)


def stored_codecs(context: Context, topic: str) -> list[int]:
    """The codec of each batch of partition 0, in Kafka's format on disk."""
    data = (context.broker.data_directory / f"{topic}-0" / f"{0:020}.log").read_bytes()
    codecs = []
    while len(data) >= 61 and (size := 12 + struct.unpack(">i", data[8:12])[0]) > 12:
        codecs.append(struct.unpack(">h", data[21:23])[0] & 7)
        data = data[size:]
    return codecs


def retention(context: Context) -> None:
    context.broker.start({"log.retention.check.interval.ms": "300"})
    topic = context.create_topic("t", configs={"retention.ms": "-1", "file.delete.delay.ms": "100"})
    Produce("t", [Record(b"old", timestamp=1_700_000_000_000)] * 3).run(context)
    OffsetsAre("t", 0, "beginning").run(context)
    alter(context, topic, ("set", "retention.ms", "60000"))
    wait_until(
        "the old records to go",
        lambda: context.driver().call("offsets", topic=topic, partition=0, at="beginning") == 3,
        30,
    )


def compaction(context: Context) -> None:
    context.broker.start()
    topic = context.create_topic("t")
    Produce("t", [Record(b"no key")]).run(context)
    alter(context, topic, ("set", "cleanup.policy", "compact"))
    eventually("records without keys to be refused", lambda: ProduceFails("t", SMALL, "INVALID_RECORD").run(context))
    Produce("t", [Record(b"value", key=b"key")]).run(context)


def connections(context: Context) -> None:
    context.broker.start()
    alter(context, "1", ("set", "max.connections.per.ip", "40"), kind="broker")

    def refused() -> bool:
        opened = []
        try:
            for _ in range(45):
                opened.append(connect(context.broker.host, context.broker.port))
            opened[-1].settimeout(2)
            return opened[-1].recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            for each in opened:
                each.close()

    wait_until("connections beyond the limit to be closed", refused, 20)
    alter(context, "1", ("delete", "max.connections.per.ip", None), kind="broker")
    wait_until("the limit to be gone", lambda: not refused(), 20)


DYNAMIC = {
    "max.message.bytes": message_size,
    "message.max.bytes-of-the-cluster": cluster_message_size,
    "message.timestamp.type": timestamp_type,
    "compression.type": codec,
    "retention.ms": retention,
    "cleanup.policy": compaction,
    "max.connections.per.ip": connections,
}

SUITES = (
    Suite(
        "configs",
        [
            Program("topic-keys", compared(TOPIC, "topic")),
            Program("broker-keys", compared(BROKER, "broker")),
        ],
        clients=(WIRE,),
        ci_more=frozenset({"topic-keys", "broker-keys"}),
    ),
    Suite(
        "configs",
        [
            Program(name, body, ALTERING | ({"cluster-configs"} if body is cluster_message_size else set()))
            for name, body in DYNAMIC.items()
        ],
        own_brokers=True,
        side_by_side=True,
        ci=frozenset(),
        ci_more=frozenset({"max.message.bytes", "cleanup.policy"}),
    ),
)
