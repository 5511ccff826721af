"""What durability costs with few and with many partitions: what the disk can do, flush rounds of the storage engine alone, and
loads that spread over all partitions of a topic."""

import json

from .. import install
from ..brokers import Brokers
from ..depth import Depth
from ..failure import CellFailed
from ..processes import run_to_end
from ..results import Recorder, Row
from .session import Session

SCENARIO = "durability"
DISK = "small appends to many files, the disk alone"
_RECORD_BYTES = 100
_CLIENT = {"acks": "all", "linger.ms": "5", "queue.buffering.max.messages": "1000000"}
_PACED = {"acks": "all", "linger.ms": "0"}


def round_of(partitions: int) -> str:
    return f"flush round, {partitions:,} dirty partitions, the storage engine alone"


def produce(partitions: int) -> str:
    return f"librdkafka, 100 B, a record for each partition in turn, {partitions:,} partitions, as fast as it goes"


def acknowledged(partitions: int, rate: int) -> str:
    return f"librdkafka, 100 B, a record for each partition in turn, {partitions:,} partitions, {rate:,}/s, linger 0"


def disk(brokers: Brokers, depth: Depth, recorder: Recorder, repetition: int) -> None:
    """The ways of making appends to many files durable, and what Ottla makes of them."""
    quick = [] if depth.name == "full" else ["--quick"]
    try:
        ways = json.loads(run_to_end([str(install.limits()), str(brokers.root), "--flush", *quick], 600))
        recorder.add(Row(SCENARIO, DISK, "", repetition, ways))
    except CellFailed as error:
        recorder.add(Row(SCENARIO, DISK, "", repetition, error=str(error)))
    rounds = "40" if depth.name == "full" else "5"
    try:
        lines = run_to_end([str(install.flush_rounds()), str(brokers.root), rounds], 600).strip().splitlines()
        for figures in map(json.loads, lines):
            cell = round_of(figures.pop("partitions"))
            recorder.add(Row(SCENARIO, cell, "", repetition, figures))
    except CellFailed as error:
        recorder.add(Row(SCENARIO, round_of(0), "", repetition, error=str(error)))


def run(session: Session) -> None:
    depth, generators = session.depth, session.generators
    for partitions in depth.durable_partitions:
        cell = produce(partitions)
        with session.cell(SCENARIO, cell), session.topic(partitions) as topic:
            records = depth.small_batches * 3
            _, metrics = session.measure(
                lambda: generators.load_produce(
                    session.bootstrap, topic, _RECORD_BYTES, records, _CLIENT, partitions, in_a_row=1
                )[0],
                writes=_RECORD_BYTES * records,
            )
            session.record(SCENARIO, cell, metrics)
            rate = depth.durable_rate
            cell = acknowledged(partitions, rate)
            with session.cell(SCENARIO, cell):
                before = session.broker.cpu_seconds()
                records = rate * depth.latency_seconds
                _, latencies = generators.load_produce(
                    session.bootstrap, topic, _RECORD_BYTES, records, _PACED, partitions, rate=rate, in_a_row=1
                )
                cpu = session.broker.cpu_seconds() - before
                session.record(SCENARIO, cell, {**latencies, "broker CPU us/record": cpu / records * 1e6})
