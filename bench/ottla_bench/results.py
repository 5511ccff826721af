"""What a run measured: one line of JSON for each figure set, written as it comes, and read back."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from .stats import Summary


# The last line of a run that came to its end.
FINISHED = {"finished": True}
# What runs must have in common to be one table.
SAME = ("ottla_binary", "kafka", "processor", "cores", "kernel", "depth", "runs")


@dataclass(frozen=True)
class Row:
    """One run of one cell on one broker; `broker` is empty for the machine's own limits."""

    scenario: str
    cell: str
    broker: str
    run: int
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


class Results:
    """Rows of one run, with the header that says where and how it ran."""

    def __init__(self, header: dict[str, object]):
        self.header = header
        self.rows: list[Row] = []
        # Whether the run came to its end; one that was interrupted has less than it set out to measure.
        self.finished = False

    @staticmethod
    def read(path: Path) -> "Results":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines or "header" not in lines[0]:
            raise ValueError(f"{path} is not a result file: its first line is no header")
        results = Results(lines[0]["header"])
        results.finished = lines[-1] == FINISHED
        results.rows = [Row(**line) for line in lines[1:] if line != FINISHED]
        return results

    @staticmethod
    def of(paths: list[Path]) -> "Results":
        """Runs of the same programs on the same machine, made one after the other, as one. A scenario that several have
        is taken from the last of them."""
        read = [Results.read(path) for path in paths]
        for key in SAME:
            if len({str(each.header.get(key)) for each in read}) > 1:
                raise ValueError(f"these runs differ in {key!r} and make no common table: {', '.join(map(str, paths))}")
        merged = Results({**read[0].header, "command": "; ".join(str(each.header["command"]) for each in read)})
        merged.header["scenarios"] = [name for each in read for name in each.header.get("scenarios", [])]
        merged.finished = all(each.finished for each in read)
        for each in read:
            measured = set(each.scenarios())
            merged.rows = [row for row in merged.rows if row.scenario not in measured] + each.rows
        return merged

    def cells(self, scenario: str) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(row.cell for row in self.rows if row.scenario == scenario))

    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(row.scenario for row in self.rows))

    def metrics(self, scenario: str, cell: str) -> list[str]:
        rows = (row for row in self.rows if row.scenario == scenario and row.cell == cell)
        return list(dict.fromkeys(metric for row in rows for metric in row.metrics))

    def summary(self, scenario: str, cell: str, broker: str, metric: str) -> Summary | None:
        values = [
            row.metrics[metric]
            for row in self.rows
            if (row.scenario, row.cell, row.broker) == (scenario, cell, broker) and metric in row.metrics
        ]
        return Summary.of(values, self.header.get("runs")) if values else None

    def errors(self) -> list[Row]:
        return [row for row in self.rows if row.error is not None]


class Recorder:
    """Takes rows as they are measured: into the file and onto the terminal."""

    def __init__(self, path: Path, header: dict[str, object]):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.results = Results(header)
        self._begun = time.monotonic()
        self._file = open(path, "w", encoding="utf-8")
        self._write({"header": header})

    def add(self, row: Row) -> None:
        self.results.rows.append(row)
        self._write({key: value for key, value in vars(row).items() if value is not None})
        figures = row.error or ", ".join(f"{name} {value:,.3f}" for name, value in row.metrics.items())
        self.say(f"{row.scenario} | {row.cell} | {row.broker or 'machine'} #{row.run + 1}: {figures}")

    def say(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._begun)
        print(f"[{elapsed // 60:02}:{elapsed % 60:02}] {text}", flush=True)

    def finish(self) -> None:
        self.results.finished = True
        self._write(FINISHED)

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
