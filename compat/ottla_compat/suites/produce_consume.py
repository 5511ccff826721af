"""Records in and out: what a record carries, where reading starts, what is refused."""

import random

from ..record import Record
from ..scenario import Scenario, Suite
from ..steps.records import (
    BEGINNING,
    END,
    CreateTopic,
    DeleteTopic,
    MetadataShows,
    OffsetsAre,
    Produce,
    ProduceFails,
    Read,
    ReadFails,
    TopicConfigIs,
    WakesWaitingConsumer,
    at_offset,
    at_timestamp,
)

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def codec_needs(codec: str) -> frozenset[str]:
    """Every client has gzip; the others are capabilities of their names."""
    return frozenset({codec} - {"none", "gzip"})


# November 2023: long before any retention by time, so such topics keep their records for ever.
BASE_MS = 1_700_000_000_000
KEEP = {"retention.ms": "-1"}
YEAR_2100_MS = 4_102_444_800_000

TEN = [Record(b"value %d" % number, key=b"key %d" % number) for number in range(10)]
DATED = [Record(b"value %d" % number, timestamp=BASE_MS + number * 1000) for number in range(10)]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def text(size: int) -> bytes:
    return (b'{"level":"info","service":"checkout","took_ms":17}\n' * (size // 51 + 1))[:size]


def codec_scenarios() -> list[Scenario]:
    scenarios = []
    for codec in CODECS:
        records = [
            *TEN,
            Record(text(20_000), key=b"compressible"),
            Record(noise(20_000), key=b"noise"),
            Record(b"", key=b"empty"),
        ]
        config = {"compression.type": codec, "linger.ms": "20"}
        steps = [CreateTopic("t"), Produce("t", records, config), Read("t")]
        scenarios.append(Scenario(f"codec-{codec}", steps, codec_needs(codec)))
        large = [Record(text(1_000_000), key=b"text"), Record(noise(1_000_000), key=b"noise")]
        config = {**config, "max.request.size": "1048576"}
        steps = [CreateTopic("t"), Produce("t", large, config), Read("t")]
        scenarios.append(Scenario(f"one-megabyte-{codec}", steps, codec_needs(codec)))
    return scenarios


CONTENTS = [
    Scenario(
        "null-and-empty-keys-and-values",
        [
            CreateTopic("t"),
            Produce(
                "t",
                [
                    Record(b"value", key=None),
                    Record(b"value", key=b""),
                    Record(None, key=b"key"),
                    Record(b"", key=b"key"),
                ],
            ),
            Read("t"),
        ],
    ),
    Scenario(
        "null-and-empty-without-key",
        [
            CreateTopic("t"),
            Produce("t", [Record(None, key=None), Record(b"", key=b""), Record(b"", key=None), Record(None, key=b"")]),
            Read("t"),
        ],
        frozenset({"empty-records"}),
    ),
    Scenario("every-byte", [CreateTopic("t"), Produce("t", [Record(bytes(range(256)) * 3)]), Read("t")]),
    Scenario(
        "headers-repeat-a-key",
        [
            CreateTopic("t"),
            Produce("t", [Record(b"v", headers=(("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"1")))]),
            Read("t"),
        ],
        frozenset({"ordered-headers"}),
    ),
    Scenario(
        "headers-empty",
        [CreateTopic("t"), Produce("t", [Record(b"v", headers=(("empty", b""), ("x", b"1")))]), Read("t")],
    ),
    Scenario(
        "headers-null",
        [CreateTopic("t"), Produce("t", [Record(b"v", headers=(("null", None), ("x", b"1")))]), Read("t")],
        frozenset({"null-headers"}),
    ),
    Scenario(
        "headers-many",
        [
            CreateTopic("t"),
            Produce("t", [Record(b"v", headers=tuple((f"h{number}", b"%d" % number) for number in range(200)))]),
            Read("t"),
        ],
    ),
    Scenario(
        "headers-with-codec",
        [
            CreateTopic("t"),
            Produce("t", [Record(b"v", headers=(("a", b"1"), ("a", b"2")))], {"compression.type": "zstd"}),
            Read("t"),
        ],
        codec_needs("zstd"),
    ),
]

TIMES = [
    Scenario(
        "create-time", [CreateTopic("t", configs=KEEP), Produce("t", DATED), Read("t")], frozenset({"timestamps"})
    ),
    Scenario("create-time-now", [CreateTopic("t"), Produce("t", TEN), Read("t")]),
    Scenario(
        "log-append-time",
        [
            CreateTopic("t", configs={"message.timestamp.type": "LogAppendTime"}),
            Produce("t", DATED),
            Read("t", timestamps="LogAppendTime"),
        ],
        frozenset({"log-append-time", "timestamps"}),
    ),
    Scenario(
        "log-append-time-compressed",
        [
            CreateTopic("t", configs={"message.timestamp.type": "LogAppendTime"}),
            Produce("t", DATED, {"compression.type": "lz4", "linger.ms": "20"}),
            Read("t", timestamps="LogAppendTime"),
        ],
        frozenset({"log-append-time", "lz4", "timestamps"}),
    ),
    Scenario(
        "far-future-refused",
        [CreateTopic("t"), ProduceFails("t", Record(b"v", timestamp=YEAR_2100_MS), "INVALID_TIMESTAMP")],
        frozenset({"timestamps"}),
    ),
    Scenario(
        "offsets-for-times",
        [
            CreateTopic("t", configs=KEEP),
            Produce("t", DATED),
            OffsetsAre("t", 0, "timestamp", 0),
            OffsetsAre("t", 0, "timestamp", BASE_MS),
            OffsetsAre("t", 1, "timestamp", BASE_MS + 1),
            OffsetsAre("t", 5, "timestamp", BASE_MS + 5000),
            OffsetsAre("t", 9, "timestamp", BASE_MS + 8001),
            OffsetsAre("t", -1, "timestamp", BASE_MS + 9001),
        ],
        frozenset({"timestamps"}),
    ),
    Scenario(
        "offsets-for-times-of-now",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            OffsetsAre("t", 0, "timestamp", BASE_MS),
            OffsetsAre("t", -1, "timestamp", YEAR_2100_MS),
        ],
    ),
    Scenario(
        "read-from-timestamp",
        [
            CreateTopic("t", configs=KEEP),
            Produce("t", DATED),
            Read("t", at_timestamp(BASE_MS + 6500), first=7),
            Read("t", at_timestamp(BASE_MS), first=0),
        ],
        frozenset({"timestamps"}),
    ),
]

PRODUCERS = [
    Scenario(
        "acks-0",
        # Nothing is acknowledged: reading by count waits until all are there.
        [
            CreateTopic("t"),
            MetadataShows("t", 1),
            Produce("t", TEN, {"acks": "0", "enable.idempotence": "false"}),
            Read("t", count=10, last=10),
        ],
    ),
    Scenario("acks-1", [CreateTopic("t"), Produce("t", TEN, {"acks": "1", "enable.idempotence": "false"}), Read("t")]),
    Scenario(
        "acks-all", [CreateTopic("t"), Produce("t", TEN, {"acks": "all", "enable.idempotence": "false"}), Read("t")]
    ),
    Scenario(
        "idempotent",
        [
            CreateTopic("t"),
            Produce("t", TEN, {"acks": "all", "enable.idempotence": "true"}),
            Produce("t", TEN, {"acks": "all", "enable.idempotence": "true"}),
            Read("t"),
        ],
        frozenset({"idempotence"}),
    ),
    Scenario(
        "idempotent-many-batches",
        [
            CreateTopic("t", 3),
            Produce(
                "t",
                [Record(text(2000), partition=number % 3) for number in range(300)],
                {"acks": "all", "enable.idempotence": "true", "linger.ms": "0", "batch.size": "4096"},
            ),
            Read("t", partitions=(0, 1, 2)),
        ],
        frozenset({"admin", "idempotence"}),
    ),
    Scenario("long-poll-wakes", [CreateTopic("t"), MetadataShows("t", 1), WakesWaitingConsumer("t")]),
]

READERS = [
    Scenario("end-of-empty-partition", [CreateTopic("t"), Read("t")]),
    Scenario("from-beginning", [CreateTopic("t"), Produce("t", TEN), Read("t", BEGINNING)]),
    Scenario("from-end", [CreateTopic("t"), Produce("t", TEN), Read("t", END, first=10)]),
    Scenario("from-offset", [CreateTopic("t"), Produce("t", TEN), Read("t", at_offset(4), first=4)]),
    Scenario(
        "from-offset-inside-a-compressed-batch",
        [
            CreateTopic("t"),
            Produce("t", TEN, {"compression.type": "gzip", "linger.ms": "50"}),
            Read("t", at_offset(7), first=7),
        ],
    ),
    Scenario("from-the-end-offset", [CreateTopic("t"), Produce("t", TEN), Read("t", at_offset(10), first=10)]),
    Scenario(
        "watermarks",
        [
            CreateTopic("t"),
            OffsetsAre("t", 0, "end"),
            Produce("t", TEN),
            OffsetsAre("t", 0, "beginning"),
            OffsetsAre("t", 10, "end"),
        ],
    ),
    Scenario(
        "out-of-range-fails",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            ReadFails(
                "t",
                at_offset(1000),
                frozenset({"OFFSET_OUT_OF_RANGE", "NO_OFFSET_AND_NO_RESET"}),
                {"auto.offset.reset": "none"},
            ),
        ],
        frozenset({"offset-reset"}),
    ),
    Scenario(
        "out-of-range-to-earliest",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Read("t", at_offset(1000), count=10, config={"auto.offset.reset": "earliest"}),
        ],
        frozenset({"offset-reset"}),
    ),
    Scenario(
        "out-of-range-to-latest",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Read("t", at_offset(1000), first=10, config={"auto.offset.reset": "latest"}),
        ],
        frozenset({"offset-reset"}),
    ),
    Scenario(
        "small-fetches",
        [
            CreateTopic("t"),
            Produce("t", [Record(noise(10_000, seed)) for seed in range(20)], {"batch.size": "1"}),
            Read("t", config={"max.partition.fetch.bytes": "1000"}),
        ],
    ),
    Scenario(
        "fetch-min-bytes",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            Read("t", config={"fetch.min.bytes": "100000", "fetch.max.wait.ms": "300"}),
        ],
    ),
    Scenario(
        "read-committed",
        [CreateTopic("t"), Produce("t", TEN), Read("t", config={"isolation.level": "read_committed"})],
    ),
    Scenario("without-crc-check", [CreateTopic("t"), Produce("t", TEN), Read("t", config={"check.crcs": "false"})]),
    Scenario(
        "several-segments",
        [
            CreateTopic("t", configs={"segment.bytes": "1048576"}),
            Produce("t", [Record(noise(100_000, seed)) for seed in range(45)]),
            Read("t"),
            Read("t", at_offset(29), first=29),
        ],
    ),
]

TOPICS = [
    Scenario(
        "many-partitions",
        [
            CreateTopic("t", 60),
            MetadataShows("t", 60),
            Produce("t", [Record(b"of %d" % number, partition=number) for number in range(60)]),
            Read("t", partitions=tuple(range(60))),
        ],
    ),
    Scenario("auto-create", [Produce("t", TEN), MetadataShows("t", 1), Read("t")]),
    Scenario(
        "too-large-refused",
        [
            CreateTopic("t"),
            ProduceFails("t", Record(noise(1_200_000)), "MESSAGE_TOO_LARGE", {"max.request.size": "5000000"}),
            Produce("t", TEN),
            Read("t"),
        ],
    ),
    Scenario(
        "too-large-for-the-topic",
        [
            CreateTopic("t", configs={"max.message.bytes": "10000"}),
            ProduceFails("t", Record(noise(12_000)), "MESSAGE_TOO_LARGE"),
            Produce("t", [Record(noise(9_000))]),
            Read("t"),
        ],
    ),
    Scenario(
        "larger-allowed-by-the-topic",
        [
            CreateTopic("t", configs={"max.message.bytes": "4000000"}),
            Produce("t", [Record(noise(3_000_000))], {"max.request.size": "5000000"}),
            Read("t", config={"max.partition.fetch.bytes": "1000000"}),
        ],
    ),
    Scenario(
        "unknown-partition",
        [
            CreateTopic("t"),
            ProduceFails(
                "t",
                Record(b"v", partition=99),
                "UNKNOWN_TOPIC_OR_PARTITION",
                {"max.block.ms": "3000"},
            ),
        ],
    ),
    Scenario(
        "unknown-topic-read",
        [
            ReadFails(
                "t",
                BEGINNING,
                # The Java client asks again and again, and says nothing.
                frozenset({"UNKNOWN_TOPIC_OR_PARTITION", "READ_TIMEOUT"}),
                {"allow.auto.create.topics": "false"},
                seconds=3,
            )
        ],
        frozenset({"admin"}),
    ),
    Scenario(
        "invalid-topic-name",
        [ProduceFails("not/valid", Record(b"v"), "INVALID_TOPIC_EXCEPTION")],
        frozenset({"name-errors"}),
    ),
    Scenario(
        "topic-created-again-is-empty",
        [
            CreateTopic("t"),
            Produce("t", TEN),
            DeleteTopic("t"),
            CreateTopic("t"),
            MetadataShows("t", 1),
            OffsetsAre("t", 0, "end"),
        ],
    ),
    Scenario(
        "broker-side-codec",
        [
            CreateTopic("t", configs={"compression.type": "zstd"}),
            Produce("t", TEN, {"compression.type": "gzip", "linger.ms": "20"}),
            Produce("t", TEN, {"compression.type": "none"}),
            Read("t"),
        ],
        frozenset({"admin"}),
    ),
    Scenario(
        "broker-side-uncompressed",
        [
            CreateTopic("t", configs={"compression.type": "uncompressed"}),
            Produce("t", TEN, {"compression.type": "lz4", "linger.ms": "20"}),
            Read("t"),
        ],
        frozenset({"admin", "lz4"}),
    ),
    Scenario(
        "topic-configuration",
        [
            CreateTopic("t", configs={"retention.ms": "123456", "cleanup.policy": "compact,delete"}),
            TopicConfigIs(
                "t",
                {
                    "retention.ms": "123456",
                    "cleanup.policy": "compact,delete",
                    "max.message.bytes": "1048588",
                    "min.insync.replicas": "1",
                },
            ),
        ],
    ),
    Scenario(
        "create-existing-topic",
        [CreateTopic("t"), CreateTopic("t", error="TOPIC_ALREADY_EXISTS")],
        frozenset({"admin"}),
    ),
    Scenario("create-without-partitions", [CreateTopic("t", 0, error="INVALID_PARTITIONS")], frozenset({"admin"})),
    Scenario(
        "create-with-bad-configuration",
        [CreateTopic("t", configs={"retention.ms": "soon"}, error="INVALID_CONFIG")],
        frozenset({"admin"}),
    ),
]

SUITE = Suite(
    "produce-consume",
    [*codec_scenarios(), *CONTENTS, *TIMES, *PRODUCERS, *READERS, *TOPICS],
    side_by_side=True,
    ci=frozenset(
        {
            *(f"codec-{codec}" for codec in CODECS),
            "null-and-empty-keys-and-values",
            "headers-repeat-a-key",
            "create-time",
            "log-append-time",
            "idempotent",
            "from-offset",
            "offsets-for-times",
            "read-committed",
        }
    ),
)
