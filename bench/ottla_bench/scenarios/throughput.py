"""Produce and consume as fast as the client can: each topic that `produce` writes is what `consume` reads."""

import statistics

from ..failure import CellFailed
from .session import GIB, Session

PRODUCE, CONSUME = "produce", "consume"
SIZES = {100: "100 B", 1024: "1 KiB"}
TAIL = "librdkafka, 1 KiB, none, 1 partition, at the end of the log"
# Batches of a size that producers under load make.
_TAIL_CLIENT = {"linger.ms": "5", "acks": "all"}


def run(session: Session) -> None:
    depth = session.depth
    for size in depth.records:
        for codec in depth.codecs:
            for partitions in depth.partitions:
                # In turn, so that no value of acks always goes to the broker that has just met the codec.
                order = depth.acks if session.run % 2 == 0 else depth.acks[::-1]
                for acks in order:
                    _librdkafka(session, size, codec, partitions, acks, last=acks == order[-1])
        _rdkafka_performance(session, size)
        if depth.java:
            _java(session, size)
        if session.generators.ottla is not None:
            _perf(session, size)
    if CONSUME in session.wanted:
        _tail(session)


def name(size: int, codec: str, partitions: int, acks: str | None, client: str = "librdkafka") -> str:
    """A cell's name; consuming has no acks."""
    plural = "s" if partitions > 1 else ""
    acked = f", acks={acks}" if acks else ""
    return f"{client}, {SIZES[size]}, {codec}, {partitions} partition{plural}{acked}"


def _librdkafka(session: Session, size: int, codec: str, partitions: int, acks: str, last: bool) -> None:
    generators, depth, bootstrap = session.generators, session.depth, session.bootstrap
    if PRODUCE not in session.wanted and not last:
        return
    cell = name(size, codec, partitions, acks)
    with session.cell(PRODUCE, cell), session.topic(partitions) as topic:
        records = round(depth.records[size] * (1 if codec == "none" else depth.compressed_share))
        settings = {"compression.type": codec, "acks": acks, "queue.buffering.max.messages": "1000000"}
        _, metrics = session.measure(
            lambda: generators.load_produce(bootstrap, topic, size, records, settings, partitions)[0],
            writes=size * records,
        )
        session.record(PRODUCE, cell, metrics)
        if CONSUME in session.wanted and last:
            cell = name(size, codec, partitions, None)
            with session.cell(CONSUME, cell):
                _, metrics = session.measure(
                    lambda: generators.rdkafka_consume(bootstrap, topic, size, records, partitions)
                )
                session.record(CONSUME, cell, metrics)


def _rdkafka_performance(session: Session, size: int) -> None:
    """The known program, on the uncompressed cell that the targets are read from."""
    cell = name(size, "none", 1, "all", "rdkafka_performance")
    records = session.depth.records[size]
    if PRODUCE in session.wanted:
        with session.cell(PRODUCE, cell), session.topic() as topic:
            _, metrics = session.measure(
                lambda: session.generators.rdkafka_produce(session.bootstrap, topic, size, records, "all", {}),
                writes=size * records,
            )
            session.record(PRODUCE, cell, metrics)


def _java(session: Session, size: int) -> None:
    generators, bootstrap = session.generators, session.bootstrap
    records = round(session.depth.records[size] * session.depth.compressed_share)
    cell = name(size, "none", 1, "all", "Java")
    with session.cell(PRODUCE, cell), session.topic() as topic:
        settings = {"linger.ms": "5"}
        _, metrics = session.measure(
            lambda: generators.java_produce(bootstrap, topic, size, records, "all", settings),
            writes=size * records,
        )
        session.record(PRODUCE, cell, metrics)
        if CONSUME in session.wanted:
            cell = name(size, "none", 1, None, "Java")
            with session.cell(CONSUME, cell):
                _, metrics = session.measure(lambda: generators.java_consume(bootstrap, topic, records))
                session.record(CONSUME, cell, metrics)


def _perf(session: Session, size: int) -> None:
    generators, bootstrap = session.generators, session.bootstrap
    records = session.depth.records[size]
    cell = name(size, "none", 1, "all", "ottla perf")
    with session.cell(PRODUCE, cell), session.topic() as topic:
        _, metrics = session.measure(
            lambda: generators.perf_produce(bootstrap, topic, size, records, [])[0],
            writes=size * records,
        )
        session.record(PRODUCE, cell, metrics)
        if CONSUME in session.wanted:
            cell = name(size, "none", 1, None, "ottla perf")
            with session.cell(CONSUME, cell):
                _, metrics = session.measure(lambda: generators.perf_consume(bootstrap, topic, records))
                session.record(CONSUME, cell, metrics)


def _tail(session: Session) -> None:
    """What it costs to give records to a consumer that keeps up: the broker's processor time of the same load with and
    without one. Both are short of the peak, and the median of three pairs is taken: it is a difference."""
    size, rate = 1024, session.depth.tail_rate
    records = rate * session.depth.latency_seconds
    settings, generators, bootstrap = _TAIL_CLIENT, session.generators, session.bootstrap
    with session.cell(CONSUME, TAIL):
        added = []
        for _ in range(3):
            used = {}
            for consumed in (False, True):
                with session.topic() as topic:
                    load = generators.load_end_to_end if consumed else generators.load_produce
                    before = session.broker.cpu_seconds()
                    done, _ = load(bootstrap, topic, size, records, settings, rate=rate)
                    used[consumed] = session.broker.cpu_seconds() - before
                    held(done.seconds, session.depth.latency_seconds, rate)
            added.append((used[True] - used[False]) / (size * records / GIB))
        session.record(CONSUME, TAIL, {"broker CPU s/GiB": statistics.median(added), "rate records/s": float(rate)})


def held(seconds: float, wanted: float, rate: int) -> None:
    """Fails the cell of an open loop that fell behind its rate."""
    if seconds > wanted * 1.03 + 0.5:
        raise CellFailed(f"the rate of {rate:,}/s was not held: {seconds:.1f} s for {wanted} s of load")
