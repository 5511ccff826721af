"""The load that every broker takes before anything is measured, so that a JVM has compiled what the cells use.

`TEXT` says it in the document; it is the same for all brokers.
"""

from ..depth import Depth
from .session import Session


def text(depth: Depth) -> str:
    records = depth.warm_up_records
    return (
        f"{records:,} records of 100 B, {records // 2:,} of 1 KiB, {records // 4:,} of 1 KiB in lz4 and as many in zstd, "
        f"{depth.small_batches // 4:,} in batches of one, 2 s at 1,000 a second, and the uncompressed ones of 1 KiB read back"
    )


def run(session: Session) -> None:
    generators, depth, bootstrap = session.generators, session.depth, session.bootstrap
    records = depth.warm_up_records
    with session.topic() as topic:
        generators.load_produce(bootstrap, topic, 100, records, {})
    with session.topic(12) as topic:
        generators.load_produce(bootstrap, topic, 1024, records // 2, {}, partitions=12)
        generators.rdkafka_consume(bootstrap, topic, 1024, records // 2, 12)
        for codec in ("lz4", "zstd"):
            generators.load_produce(bootstrap, topic, 1024, records // 4, {"compression.type": codec})
    with session.topic() as topic:
        one_each = {"linger.ms": "0", "batch.num.messages": "1"}
        generators.load_produce(bootstrap, topic, 100, depth.small_batches // 4, one_each)
        generators.load_produce(bootstrap, topic, 100, 2_000, {"linger.ms": "0"}, rate=1_000)
