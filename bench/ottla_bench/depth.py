"""How much load each cell gets, and how often."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Depth:
    name: str
    runs: int
    # Records of a produce cell by size; compressed cells get a share.
    records: dict[int, int]
    compressed_share: float
    codecs: tuple[str, ...]
    partitions: tuple[int, ...]
    acks: tuple[str, ...]
    java: bool
    warm_up_records: int
    small_batches: int
    latency_seconds: int
    peak_records: int
    # Records a second of the cell that keeps a consumer at the end of the log.
    tail_rate: int
    connections: int
    topics: int
    partition_topics: int
    partitions_per_topic: int
    # Of the log whose broker is killed.
    recovery_mib: int
    durable_partitions: tuple[int, ...]
    # Records a second, in all partitions together.
    durable_rate: int


CODECS = ("none", "lz4", "zstd")

FULL = Depth(
    name="full",
    runs=3,
    # A cell must last a second or more, also for a fast broker: a shorter one measures what runs beside it.
    records={100: 3_000_000, 1024: 1_000_000},
    compressed_share=1,
    codecs=CODECS,
    partitions=(1, 12),
    acks=("1", "all"),
    java=True,
    warm_up_records=1_000_000,
    small_batches=100_000,
    latency_seconds=5,
    peak_records=500_000,
    tail_rate=100_000,
    connections=10_000,
    topics=1_000,
    partition_topics=50,
    partitions_per_topic=100,
    recovery_mib=10 << 10,
    durable_partitions=(1, 100, 5_000),
    durable_rate=2_000,
)

QUICK = Depth(
    name="quick",
    runs=1,
    records={100: 300_000, 1024: 100_000},
    compressed_share=0.35,
    codecs=CODECS,
    partitions=(1, 12),
    acks=("all",),
    java=True,
    warm_up_records=100_000,
    small_batches=20_000,
    latency_seconds=2,
    peak_records=50_000,
    tail_rate=20_000,
    connections=1_000,
    topics=100,
    partition_topics=10,
    partitions_per_topic=50,
    recovery_mib=1 << 10,
    durable_partitions=(1, 100, 1_000),
    durable_rate=1_000,
)

CI = Depth(
    name="ci",
    runs=1,
    records={1024: 50_000},
    compressed_share=0.35,
    codecs=("none", "lz4"),
    partitions=(1,),
    acks=("all",),
    java=False,
    warm_up_records=10_000,
    small_batches=5_000,
    latency_seconds=1,
    peak_records=10_000,
    tail_rate=5_000,
    connections=200,
    topics=20,
    partition_topics=2,
    partitions_per_topic=20,
    recovery_mib=64,
    durable_partitions=(1, 100),
    durable_rate=200,
)
