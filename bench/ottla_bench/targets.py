"""The targets of the design that apply to one node: how each is read from the results, and whether it is met."""

from dataclasses import dataclass

from .results import Results
from .scenarios import LIMITS, durability, fresh, latency, recovery, small_batches, throughput
from .stats import short

OTTLA, DURABLE, KAFKA = "ottla page-cache", "ottla fsync", "kafka"
CPU = "broker CPU s/GiB"


@dataclass(frozen=True)
class Verdict:
    what: str
    target: str
    measured: str
    # None: this run did not measure it.
    met: bool | None


class _Reader:
    def __init__(self, results: Results):
        self._results = results

    def median(self, scenario: str, cell: str, broker: str, metric: str) -> float | None:
        summary = self._results.summary(scenario, cell, broker, metric)
        """`None` also when fewer repetitions than asked for have it: that is no verdict."""
        return summary.median if summary and not summary.is_incomplete else None

    def limit(self, metric: str) -> float | None:
        return self.median(LIMITS, "machine", "", metric)

    def cells_with(self, scenario: str, metric: str) -> list[str]:
        return [cell for cell in self._results.cells(scenario) if metric in self._results.metrics(scenario, cell)]

    def cell_of(self, scenario: str) -> str:
        """The name of a scenario's only cell, which has a count in it."""
        cells = [cell for cell in self._results.cells(scenario) if cell]
        return cells[0] if cells else ""


def verdicts(results: Results) -> list[Verdict]:
    read = _Reader(results)
    return [
        *_fresh(read),
        *_processor_time(read),
        *_small_batches(read),
        *_latencies(read),
        _durable_rate(read),
        *_partitions(read),
        *_recovery(read),
        *_many_dirty(read),
        *_ELSEWHERE,
    ]


# Rows of one node that this harness does not measure, and what does.
_ELSEWHERE = [
    Verdict("1 million committed offsets load", "< 1 s", "`cargo run --release -p ottla-broker --example offsets`, below", None),
    Verdict("cold reader draining a backlog: tail p99 of others", "<= 1.5 x", "not measured", None),
]


def _at_most(what: str, limit: float | None, value: float | None, unit: str, because: str = "") -> Verdict:
    if limit is None or value is None:
        return Verdict(what, "-" if limit is None else f"<= {short(limit)} {unit}", "not measured", None)
    return Verdict(what, f"<= {short(limit)} {unit}{because}", f"{short(value)} {unit}", value <= limit)


def _at_least(what: str, limit: float | None, value: float | None, unit: str, because: str = "") -> Verdict:
    if limit is None or value is None:
        return Verdict(what, "-" if limit is None else f">= {short(limit)} {unit}", "not measured", None)
    return Verdict(what, f">= {short(limit)} {unit}{because}", f"{short(value)} {unit}", value >= limit)


def _share(value: float | None, share: float) -> float | None:
    return None if value is None else value * share


def _fresh(read: _Reader) -> list[Verdict]:
    start = read.median(fresh.STARTUP, fresh.NEW, OTTLA, "exec to first answer ms")
    idle = read.median(fresh.STARTUP, fresh.NEW, OTTLA, "idle RSS MiB")
    partition = read.median(
        fresh.PARTITIONS, read.cell_of(fresh.PARTITIONS), OTTLA, "RSS KiB/partition after restart"
    )
    return [
        _at_most("exec to the first answered request", 25, start, "ms"),
        _at_most("idle RSS of a fresh broker", 15, idle, "MiB"),
        _at_most("RSS of a further idle partition", 2, partition, "KiB"),
    ]


def _processor_time(read: _Reader) -> list[Verdict]:
    rows = []
    for size, limit in ((1024, 0.5), (100, 0.7)):
        cell = throughput.name(size, "none", 1, "all")
        ours = read.median(throughput.PRODUCE, cell, OTTLA, CPU)
        theirs = read.median(throughput.PRODUCE, cell, KAFKA, CPU)
        what = f"broker CPU s/GiB produced, {throughput.SIZES[size]}, uncompressed"
        rows.append(_at_most(what, limit, ours, "s"))
        rows.append(_at_most(what, _share(theirs, 1 / 3), ours, "s", " (1/3 of Kafka's)"))
    tail = read.median(throughput.CONSUME, throughput.TAIL, OTTLA, CPU)
    rows.append(_at_most("broker CPU s/GiB fetched, hot tail, 1 KiB", 0.25, tail, "s"))
    # The cell reads 1 GiB from its beginning, of which the last 64 MiB at most are still in the broker's memory.
    cold = read.median(throughput.CONSUME, throughput.name(1024, "none", 1, None), OTTLA, CPU)
    bare = [read.limit(f"loopback_{way}_answers_cpu_s_per_gib") for way in ("write", "sendfile")]
    best = min((limit for limit in bare if limit is not None), default=None)
    what = "broker CPU s/GiB fetched, cold page cache, 1 KiB"
    rows.append(_at_most(what, _share(best, 1.3), cold, "s", " (1.3 x the best bare send loop)"))
    return rows


def _small_batches(read: _Reader) -> list[Verdict]:
    rows = []
    for records_each in (1, 10):
        cell, metric = small_batches.name(records_each), "records/broker CPU s"
        ours = read.median(small_batches.SCENARIO, cell, OTTLA, metric)
        theirs = read.median(small_batches.SCENARIO, cell, KAFKA, metric)
        what = f"records per broker CPU second, linger 0, 100 B, {records_each} a batch"
        rows.append(_at_least(what, _share(theirs, 4), ours, "", " (4 x Kafka's)"))
    return rows


def _latencies(read: _Reader) -> list[Verdict]:
    rows = []
    sync_p50, sync_p99 = read.limit("fdatasync_p50_ms"), read.limit("fdatasync_p99_ms")
    for share in latency.SHARES:
        cell = latency.name(share)
        what = f"end-to-end p99 at {share} of Kafka's peak"
        ours = read.median(latency.END_TO_END, cell, OTTLA, "p99 ms")
        theirs = read.median(latency.END_TO_END, cell, KAFKA, "p99 ms")
        durable = read.median(latency.END_TO_END, cell, DURABLE, "p99 ms")
        rows.append(_at_most(f"{what}, page cache", _share(theirs, 1 / 3), ours, "ms", " (1/3 of Kafka's)"))
        limit = None if sync_p99 is None else 2 * sync_p99 + 1
        rows.append(_at_most(f"{what}, durable", limit, durable, "ms", " (2 x fdatasync p99 + 1 ms)"))
    what = "acknowledged produce, 1,000/s, linger 0, p50"
    ours = read.median(latency.LATENCY, latency.ACKNOWLEDGED, OTTLA, "p50 ms")
    durable = read.median(latency.LATENCY, latency.ACKNOWLEDGED, DURABLE, "p50 ms")
    limit = None if sync_p50 is None else 1.6 * sync_p50 + 0.1
    rows.append(_at_most(f"{what}, page cache", 0.2, ours, "ms"))
    rows.append(_at_most(f"{what}, durable", limit, durable, "ms", " (1.6 x fdatasync p50 + 0.1 ms)"))
    return rows


def _durable_rate(read: _Reader) -> Verdict:
    cell = throughput.name(1024, "none", 1, "all")
    page_cache = read.median(throughput.PRODUCE, cell, OTTLA, "MB/s")
    disk = read.limit("fdatasync_1mib_mb_s")
    durable = read.median(throughput.PRODUCE, cell, DURABLE, "MB/s")
    limit = None if page_cache is None or disk is None else 0.9 * min(page_cache, disk)
    because = " (0.9 x the lesser of page cache and sequential fdatasync)"
    return _at_least("produce, durable, 1 KiB, uncompressed", limit, durable, "MB/s", because)


def _partitions(read: _Reader) -> list[Verdict]:
    cell = read.cell_of(fresh.PARTITIONS)
    rows = []
    for metric, what, unit in (("exec to all led s", "start", "s"), ("RSS after restart MiB", "RSS", "MiB")):
        ours = read.median(fresh.PARTITIONS, cell, OTTLA, metric)
        theirs = read.median(fresh.PARTITIONS, cell, KAFKA, metric)
        rows.append(_at_most(f"{cell or 'many partitions'}: {what}", _share(theirs, 1 / 5), ours, unit, " (1/5 of Kafka's)"))
    return rows


def _recovery(read: _Reader) -> list[Verdict]:
    """The cells with their sizes in the name; a run that made none has neither."""
    rows = []
    for metric, limit in ((recovery.SERVING, 0.3), (recovery.ALL_SERVED, 1.0)):
        cells = read.cells_with(recovery.SCENARIO, metric)
        for cell in cells or ["any log size" if limit < 1 else "5,000 partitions"]:
            for broker in (OTTLA, DURABLE):
                value = read.median(recovery.SCENARIO, cell, broker, metric)
                rows.append(_at_most(f"kill -9 to serving, {cell}, {broker.removeprefix('ottla ')}", limit, value, "s"))
    return rows


def _many_dirty(read: _Reader) -> list[Verdict]:
    cell = durability.round_of(5_000)
    sync_p99 = read.median(durability.SCENARIO, cell, "", "one fdatasync p99 ms")
    flush_round = read.median(durability.SCENARIO, cell, "", "journal p50 ms")
    cell = durability.produce(5_000)
    ours, theirs = (read.median(durability.SCENARIO, cell, broker, CPU) for broker in (OTTLA, KAFKA))
    because = " (5 x the p99 of one fdatasync)"
    return [
        _at_most("flush round with 5,000 dirty partitions, p50", _share(sync_p99, 5), flush_round, "ms", because),
        _at_most("produce spread over 5,000 partitions, broker CPU s/GiB", _share(theirs, 1 / 5), ours, "s", " (1/5 of Kafka's)"),
    ]
