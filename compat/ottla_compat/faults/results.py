"""What was tried, run by run (`results/*.jsonl`), and the table of it in docs/durability.md.

A line is one row of one run: its commit, its seed, what was injected, and the verdict. Lines are only ever added. Runs
of the bounded selection (`--ci`) are kept apart, in a file that is not committed.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..failure import CannotRun
from ..paths import REPOSITORY

RESULTS = REPOSITORY / "results"
BOUNDED = RESULTS / "bounded.jsonl"
DOCUMENT = REPOSITORY / "docs" / "durability.md"
BEGIN, END = "<!-- counts: begin (compat/run --durability-table) -->", "<!-- counts: end -->"


@dataclass
class Entry:
    """One row of one run, filled while it runs."""

    row: str
    seed: int
    # What was injected and struck, which decides whether the row counts as run.
    injected: int = 0
    acknowledged: int = 0
    lost: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    # Why the row could not be run here.
    not_run: str | None = None

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


@contextmanager
def recorded(instrument: str, row: str, seed: int, bounded: bool) -> Iterator[Entry]:
    """Appends the entry however it ends."""
    entry = Entry(row, seed)
    began = time.monotonic()
    verdict = "failed"
    try:
        yield entry
        verdict = "passed" if entry.not_run is None else "not run"
    finally:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "commit": commit(),
            "row": entry.row,
            "seed": entry.seed,
            "injected": entry.injected,
            "acknowledged": entry.acknowledged,
            "lost": entry.lost,
            "counts": entry.counts,
            "seconds": round(time.monotonic() - began),
            "verdict": verdict,
        }
        if entry.not_run is not None:
            line["why"] = entry.not_run
        append(BOUNDED if bounded else RESULTS / f"{instrument}.jsonl", line)


def append(path: Path, line: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def commit() -> str:
    """The commit the run is of, with a plus when the sources had changed since."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":(exclude)results", ":(exclude)docs")
    return f"{head}+" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


@dataclass(frozen=True)
class Row:
    """A line of the table: the rows of the results it sums, and how many faults make it count as run."""

    title: str
    instrument: str
    row: str
    unit: str
    needed: int
    # Sums this of `counts` instead of `injected`.
    count: str | None = None


ROWS = (
    Row("kill -9 under load, durable", "faults", "kill-9", "kills", 200),
    Row("power loss of the real process, durable", "faults", "power-loss", "power losses", 100),
    Row("failed fsync, the only directory", "faults", "failed-sync", "failed syncs", 100),
    Row("failed fsync, one directory of two", "faults", "failed-sync-of-one-directory", "failed syncs", 20),
    Row("EIO on write", "faults", "failed-write", "failed writes", 50),
    Row("EIO on read", "faults", "failed-read", "failed reads", 50),
    Row("ENOSPC, injected", "faults", "no-space", "times full", 100),
    Row("ENOSPC, a small file system filled and freed", "faults", "full-file-system", "times full", 20),
    Row("slow fsync", "faults", "slow-sync", "slow syncs", 100),
    Row("wall clock jumps", "faults", "clock-jumps", "jumps", 40),
    Row("page-cache: kill -9 under load", "faults", "page-cache-kill-9", "kills", 50),
    Row("page-cache: power loss takes what was not written back", "faults", "page-cache-power-loss", "losses", 10),
    Row("a disk that lies about syncs is noticed", "faults", "lying-disk", "power losses", 1),
    Row("simulated log: seeds", "simulation", "log", "seeds", 500),
    Row("simulated log: power losses", "simulation", "log", "power losses", 200, "power losses"),
    Row(
        "simulated log, page-cache: power losses",
        "simulation",
        "log",
        "power losses",
        200,
        "power losses with page-cache",
    ),
    Row("simulated log: moves between directories, cut short", "simulation", "log", "moves", 100, "moves interrupted"),
    Row("simulated broker: seeds", "simulation", "broker", "seeds", 100),
    Row("planted defects caught", "simulation", "planted", "defects", 10),
    Row("a bit flipped in a log, an index, a snapshot, a checksum", "bits", "bit-flips", "flips", 10_000),
    Row("the last two batches cut at every byte", "bits", "cut-ends", "cuts", 200),
    Row("fuzzed: a partition's files, as a start finds them", "fuzz", "log_recovery", "inputs", 50_000),
    Row("fuzzed: indexes of its segments", "fuzz", "log_indexes", "inputs", 20_000),
    Row("fuzzed: checkpoints of a log directory", "fuzz", "log_checkpoints", "inputs", 1_000_000),
    Row("fuzzed: a node's metadata, log and snapshots", "fuzz", "metadata_recovery", "inputs", 20_000),
    Row("fuzzed: Apache Kafka's metadata, to be adopted", "fuzz", "metadata_import", "inputs", 1_000_000),
)


def lines_of(instrument: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{instrument}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def table() -> str:
    text = [
        "| what | tried | needed | runs | acknowledged | lost | last run | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        runs = [line for line in lines_of(row.instrument) if line["row"] == row.row and line["verdict"] != "not run"]
        tried = sum(line["counts"].get(row.count, 0) if row.count else line["injected"] for line in runs)
        lost = sum(line["lost"] for line in runs)
        acknowledged = sum(line["acknowledged"] for line in runs)
        last = f"{runs[-1]['time'][:10]}, `{runs[-1]['commit']}`" if runs else ""
        text.append(
            f"| {row.title} | {tried:,} {row.unit} | {row.needed:,} | {len(runs)} | {acknowledged:,} | {lost:,} "
            f"| {last} | {verdict_of(row, runs, tried)} |"
        )
    return "\n".join(text)


def verdict_of(row: Row, runs: list[dict[str, Any]], tried: int) -> str:
    """The last run decides; what failed before it was mended since, and is still told."""
    if tried < row.needed:
        return "not run"
    failed = [line for line in runs if line["verdict"] == "failed"]
    if runs[-1]["verdict"] == "failed":
        return "**failed**"
    return f"passed (after {len(failed)} failed runs)" if failed else "passed"


def write_table(document: Path = DOCUMENT) -> Path:
    text = document.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise CannotRun(f"{document} has no place for the counts")
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    document.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")
    return document


def table_is_current(document: Path = DOCUMENT) -> bool:
    return f"{BEGIN}\n{table()}\n{END}" in document.read_text(encoding="utf-8")
