"""Latencies at fixed rates that do not wait for the broker: acknowledged, and end to end at shares of a measured peak."""

import statistics

from .session import Session
from .throughput import held

LATENCY, END_TO_END = "latency", "end-to-end"
ACKNOWLEDGED = "librdkafka, 1,000/s, 100 B, linger 0, acks=all"
PERF = "ottla perf, 1,000/s, 100 B, linger 0, acks=all"
ONE_AT_A_TIME = "Java, one record at a time, 100 B"
SHARES = {"10 %": 0.1, "50 %": 0.5}
PEAK = "librdkafka, 1 KiB, as fast as it goes"

_RECORD_BYTES = 1024
_CLIENT = {"linger.ms": "0", "acks": "all"}
# An end-to-end load lives with batches: at half the peak, requests of one record would measure the client.
_CLIENT_END_TO_END = {"linger.ms": "1", "acks": "all", "consumer.fetch.queue.backoff.ms": "1"}


def name(share: str) -> str:
    return f"librdkafka, 1 KiB, linger 1, {share} of Kafka's peak"


def acknowledged(session: Session) -> None:
    with session.cell(LATENCY, ACKNOWLEDGED), session.topic() as topic:
        records = 1_000 * session.depth.latency_seconds
        before = session.broker.cpu_seconds()
        done, latencies = session.generators.load_produce(session.bootstrap, topic, 100, records, _CLIENT, rate=1_000)
        held(done.seconds, session.depth.latency_seconds, 1_000)
        cpu = session.broker.cpu_seconds() - before
        session.record(LATENCY, ACKNOWLEDGED, {**latencies, "broker CPU us/record": cpu / records * 1e6})
    if session.generators.ottla is not None:
        with session.cell(LATENCY, PERF), session.topic() as topic:
            records = 1_000 * session.depth.latency_seconds
            options = ["--rate", "1000", "--linger", "0ms"]
            done, latencies = session.generators.perf_produce(session.bootstrap, topic, 100, records, options)
            held(done.seconds, session.depth.latency_seconds, 1_000)
            session.record(LATENCY, PERF, latencies)


def end_to_end(session: Session, peak: float) -> None:
    """`peak` in records a second; the same for every broker, so that they carry the same load."""
    generators, depth, bootstrap = session.generators, session.depth, session.bootstrap
    with session.cell(END_TO_END, PEAK):
        session.record(END_TO_END, PEAK, {"records/s": _peak(session)})
    for share, part in SHARES.items():
        with session.cell(END_TO_END, name(share)), session.topic() as topic:
            rate = max(1_000, round(peak * part))
            done, latencies = generators.load_end_to_end(
                bootstrap, topic, _RECORD_BYTES, rate * depth.latency_seconds, _CLIENT_END_TO_END, rate=rate
            )
            held(done.seconds, depth.latency_seconds, rate)
            session.record(END_TO_END, name(share), {**latencies, "rate records/s": float(rate)})
    if depth.java:
        with session.cell(END_TO_END, ONE_AT_A_TIME), session.topic() as topic:
            latencies = generators.java_end_to_end(bootstrap, topic, 100, 1_000 * depth.latency_seconds)
            session.record(END_TO_END, ONE_AT_A_TIME, latencies)


def peak(session: Session) -> float:
    """The rates of a run are shares of this: Kafka's median of three, warmed up."""
    return statistics.median(_peak(session) for _ in range(3))


def _peak(session: Session) -> float:
    with session.topic() as topic:
        done, _ = session.generators.load_end_to_end(
            session.bootstrap, topic, _RECORD_BYTES, session.depth.peak_records, _CLIENT_END_TO_END
        )
    return done.records / done.seconds
