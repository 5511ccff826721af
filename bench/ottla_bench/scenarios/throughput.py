"""Produce and consume as fast as the client can: each topic that `produce` writes is what `consume` reads."""

from .session import Session

PRODUCE, CONSUME = "produce", "consume"
SIZES = {100: "100 B", 1024: "1 KiB"}


def run(session: Session) -> None:
    depth = session.depth
    for size in depth.records:
        for codec in depth.codecs:
            for partitions in depth.partitions:
                for acks in depth.acks:
                    _librdkafka(session, size, codec, partitions, acks)
        _rdkafka_performance(session, size)
        if depth.java:
            _java(session, size)
        if session.generators.ottla is not None:
            _perf(session, size)


def name(size: int, codec: str, partitions: int, acks: str | None, client: str = "librdkafka") -> str:
    """A cell's name; consuming has no acks."""
    plural = "s" if partitions > 1 else ""
    acked = f", acks={acks}" if acks else ""
    return f"{client}, {SIZES[size]}, {codec}, {partitions} partition{plural}{acked}"


def _librdkafka(session: Session, size: int, codec: str, partitions: int, acks: str) -> None:
    generators, depth, bootstrap = session.generators, session.depth, session.bootstrap
    last = acks == depth.acks[-1]
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
