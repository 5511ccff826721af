"""What can be measured, and in which order: the machine, fresh brokers, then sessions of warmed-up ones."""

import json
import shutil
from collections.abc import Callable
from functools import partial

from .. import install
from ..brokers import Broker, Brokers
from ..depth import Depth
from ..failure import BrokerLost, CellFailed
from ..generators import Generators
from ..processes import run_to_end
from ..results import Recorder, Row
from . import durability, fresh, latency, recovery, small_batches, throughput, warm_up
from .session import Session

LIMITS = "limits"
# A start takes milliseconds on one and seconds on the other; more repetitions where they are cheap and spread.
STARTUP_RUNS = 5
FREE_BYTES = 16 << 30

_FRESH: dict[str, Callable[[Broker, Depth], dict[str, dict[str, float]]]] = {
    fresh.STARTUP: lambda broker, _: fresh.startup(broker),
    fresh.CONNECTIONS: fresh.connections,
    fresh.TOPICS: fresh.topics,
    fresh.PARTITIONS: fresh.partitions,
}
_LOADED = (
    throughput.PRODUCE,
    throughput.CONSUME,
    small_batches.SCENARIO,
    latency.LATENCY,
    latency.END_TO_END,
    durability.SCENARIO,
)
ALL = (LIMITS, *_FRESH, recovery.SCENARIO, *_LOADED)
# Each way of measuring once; no scenario that takes long on a loaded machine.
_LONG = (fresh.PARTITIONS, recovery.SCENARIO, durability.SCENARIO)
SMOKE = tuple(scenario for scenario in ALL if scenario not in _LONG)


def needs_generators(wanted: frozenset[str]) -> bool:
    return not wanted.isdisjoint(_LOADED)


def run(wanted: frozenset[str], brokers: Brokers, generators: Generators | None, depth: Depth, recorder: Recorder) -> None:
    if shutil.disk_usage(brokers.root).free < FREE_BYTES:
        recorder.say(f"less than {FREE_BYTES >> 30} GiB are free beside the data: a full run needs 10")
    if LIMITS in wanted:
        for repetition in range(depth.runs):
            _limits(brokers, depth, recorder, repetition)
    if durability.SCENARIO in wanted:
        for repetition in range(depth.runs):
            durability.disk(brokers, depth, recorder, repetition)
    for scenario, measure in _FRESH.items():
        if scenario in wanted:
            runs = max(STARTUP_RUNS, depth.runs) if scenario == fresh.STARTUP and depth.runs > 1 else depth.runs
            for repetition in range(runs):
                for kind in brokers.in_turn(repetition):
                    _fresh(scenario, measure, kind, repetition, brokers, depth, recorder)
    if recovery.SCENARIO in wanted:
        for repetition in range(depth.runs):
            for kind in brokers.in_turn(repetition):
                for measure in (partial(recovery.large_log, ottla=brokers.ottla), recovery.partitions):
                    _fresh(recovery.SCENARIO, measure, kind, repetition, brokers, depth, recorder)
    if needs_generators(wanted):
        assert generators is not None, "installed when a wanted scenario needs them"
        _sessions(wanted, brokers, generators, depth, recorder)


def _limits(brokers: Brokers, depth: Depth, recorder: Recorder, repetition: int) -> None:
    command = [str(install.limits()), str(brokers.root)] + ([] if depth.name == "full" else ["--quick"])
    try:
        figures = json.loads(run_to_end(command, 300))
        recorder.add(Row(LIMITS, "machine", "", repetition, figures))
    except CellFailed as error:
        recorder.add(Row(LIMITS, "machine", "", repetition, error=str(error)))


def _fresh(
    scenario: str,
    measure: Callable[[Broker, Depth], dict[str, dict[str, float]]],
    kind: str,
    repetition: int,
    brokers: Brokers,
    depth: Depth,
    recorder: Recorder,
) -> None:
    broker = brokers.create(kind)
    try:
        for cell, metrics in measure(broker, depth).items():
            recorder.add(Row(scenario, cell, kind, repetition, metrics))
    except Exception as error:
        recorder.add(Row(scenario, "", kind, repetition, error=_reason(error)))
    finally:
        brokers.discard(broker)


def _reason(error: Exception) -> str:
    """One broker's defect must not cost the other scenarios: what is not one of ours is named with its kind."""
    return str(error) if isinstance(error, (CellFailed, BrokerLost)) else f"{type(error).__name__}: {error}"


def _sessions(
    wanted: frozenset[str], brokers: Brokers, generators: Generators, depth: Depth, recorder: Recorder
) -> None:
    peak = 0.0

    def find_peak(session: Session) -> None:
        nonlocal peak
        peak = latency.peak(session)
        recorder.say(f"{session.broker.kind} carries {peak:,.0f} records/s end to end; the rates are shares of it")

    if latency.END_TO_END in wanted and "kafka" in brokers.kinds:
        _session("kafka", -1, frozenset(), brokers, generators, depth, recorder, find_peak)

    def loads(session: Session) -> None:
        if not wanted.isdisjoint((throughput.PRODUCE, throughput.CONSUME)):
            throughput.run(session)
        if small_batches.SCENARIO in wanted:
            small_batches.run(session)
        if latency.LATENCY in wanted:
            latency.acknowledged(session)
        if durability.SCENARIO in wanted:
            durability.run(session)
        if latency.END_TO_END in wanted:
            if peak == 0.0 and "kafka" not in brokers.kinds:
                # Without Kafka the cells carry shares of the first broker's peak; no target is read from such a run.
                find_peak(session)
            if peak == 0.0:
                raise CellFailed("Kafka's peak could not be measured, so its shares are not known")
            latency.end_to_end(session, peak)

    for repetition in range(depth.runs):
        for kind in brokers.in_turn(repetition):
            _session(kind, repetition, wanted, brokers, generators, depth, recorder, loads)


def _session(
    kind: str,
    repetition: int,
    wanted: frozenset[str],
    brokers: Brokers,
    generators: Generators,
    depth: Depth,
    recorder: Recorder,
    body: Callable[[Session], None],
) -> None:
    """A broker of its own, warmed up; what ends it early is a row of the results."""
    broker = brokers.create(kind)
    session = Session(broker, generators, depth, recorder, repetition, wanted)
    try:
        broker.start()
        recorder.say(f"{kind}: warm-up")
        warm_up.run(session)
        body(session)
    except Exception as error:
        recorder.add(Row("session", "", kind, repetition, error=_reason(error)))
    finally:
        brokers.discard(broker)
