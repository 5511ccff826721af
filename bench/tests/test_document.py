"""From rows to verdicts and Markdown."""

import tempfile
import unittest
from pathlib import Path

from ottla_bench import document
from ottla_bench.results import Recorder, Results, Row
from ottla_bench.scenarios import LIMITS, durability, fresh, latency, recovery, throughput
from ottla_bench.targets import DURABLE, KAFKA, OTTLA, Verdict, verdicts

HEADER = {
    "command": "bench/run",
    "date": "2026-11-21",
    "ottla": "abc",
    "ottla_binary_mib": 11.3,
    "kafka": "4.4.0",
    "cores": 2,
    "processor": "P",
    "memory_gib": 24,
    "kernel": "6",
    "file_system": "ext4",
    "load_before": 0.1,
    "warm_up": "a load",
}
CELL = throughput.name(1024, "none", 1, "all")


def results(*rows: Row) -> Results:
    made = Results(HEADER)
    made.rows = list(rows)
    return made


def verdict(made: Results, what: str, target: str) -> Verdict:
    (found,) = [each for each in verdicts(made) if each.what == what and target in each.target]
    return found


class Verdicts(unittest.TestCase):
    def test_nothing_measured_is_nothing_met(self) -> None:
        self.assertTrue(verdicts(results()))
        self.assertTrue(all(each.met is None and "measured" in each.measured or "cargo run" in each.measured for each in verdicts(results())))

    def test_the_median_is_held_against_the_limit(self) -> None:
        what = "exec to the first answered request"
        for medians, met in (([20, 25, 90], True), ([5, 25.1, 26], False)):
            rows = [
                Row(fresh.STARTUP, fresh.NEW, OTTLA, run, {"exec to first answer ms": value})
                for run, value in enumerate(medians)
            ]
            self.assertIs(verdict(results(*rows), what, "25").met, met)

    def test_fewer_repetitions_than_asked_for_are_no_verdict(self) -> None:
        made = results(*(Row(fresh.STARTUP, fresh.NEW, OTTLA, run, {"exec to first answer ms": 7}) for run in range(2)))
        made.header = {**HEADER, "runs": 3}
        self.assertIsNone(verdict(made, "exec to the first answered request", "25").met)
        self.assertIn("7.00 (7.00-7.00), 2 of 3 runs", document.markdown(made))

    def test_a_third_of_kafka(self) -> None:
        what = "broker CPU s/GiB produced, 1 KiB, uncompressed"
        for theirs, met in ((1.8, True), (1.4, False)):
            made = results(
                Row(throughput.PRODUCE, CELL, OTTLA, 0, {"broker CPU s/GiB": 0.49}),
                Row(throughput.PRODUCE, CELL, KAFKA, 0, {"broker CPU s/GiB": theirs}),
            )
            self.assertIs(verdict(made, what, "1/3").met, met)
            self.assertIs(verdict(made, what, "0.500 s").met, True)

    def test_durable_rows_are_held_against_the_disk(self) -> None:
        made = results(
            Row(LIMITS, "machine", "", 0, {"fdatasync_p50_ms": 0.2, "fdatasync_1mib_mb_s": 500}),
            Row(latency.LATENCY, latency.ACKNOWLEDGED, DURABLE, 0, {"p50 ms": 0.43}),
            Row(throughput.PRODUCE, CELL, OTTLA, 0, {"MB/s": 900}),
            Row(throughput.PRODUCE, CELL, DURABLE, 0, {"MB/s": 449}),
        )
        self.assertIs(verdict(made, "acknowledged produce, 1,000/s, linger 0, p50, durable", "0.420").met, False)
        self.assertIs(verdict(made, "produce, durable, 1 KiB, uncompressed", "450").met, False)


    def test_recovery_is_judged_by_the_size_that_was_measured(self) -> None:
        made = results(
            Row(recovery.SCENARIO, "1 GiB in one partition", OTTLA, 0, {recovery.SERVING: 0.2}),
            Row(recovery.SCENARIO, "1 GiB in one partition", DURABLE, 0, {recovery.SERVING: 0.4}),
        )
        what = "kill -9 to serving, 1 GiB in one partition"
        self.assertIs(verdict(made, f"{what}, page-cache", "0.3").met, True)
        self.assertIs(verdict(made, f"{what}, fsync", "0.3").met, False)
        self.assertIsNone(verdict(made, "kill -9 to serving, 5,000 partitions, fsync", "1").met)


class Document(unittest.TestCase):
    def test_rows_survive_the_file(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            recorder = Recorder(Path(directory) / "run.jsonl", HEADER)
            recorder.say = lambda _: None
            recorder.add(Row("produce", "cell", OTTLA, 0, {"MB/s": 1.5}))
            recorder.add(Row("produce", "cell", KAFKA, 0, error="it | broke"))
            recorder.close()
            read = Results.read(recorder.path)
            merged = Results.of([recorder.path, recorder.path])
        self.assertEqual(read.header, HEADER)
        self.assertEqual(read.rows, recorder.results.rows)
        self.assertEqual(merged.rows, read.rows)
        self.assertFalse(read.finished or merged.finished)
        self.assertEqual(merged.header["command"], "bench/run; bench/run")

    def test_runs_of_different_builds_make_no_common_table(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            paths = []
            for binary in ("a", "b"):
                recorder = Recorder(Path(directory) / f"{binary}.jsonl", {**HEADER, "ottla_binary": binary})
                recorder.finish()
                recorder.close()
                paths.append(recorder.path)
            self.assertTrue(Results.read(paths[0]).finished)
            with self.assertRaisesRegex(ValueError, "ottla_binary"):
                Results.of(paths)

    def test_a_line_has_both_ratios_and_failures_are_shown(self) -> None:
        text = document.markdown(
            results(
                Row("produce", "cell", OTTLA, 0, {"MB/s": 300}),
                Row("produce", "cell", OTTLA, 1, {"MB/s": 500}),
                Row("produce", "cell", DURABLE, 0, {"MB/s": 100}),
                Row("produce", "cell", KAFKA, 0, {"MB/s": 200}),
                Row("topics", "", KAFKA, 0, error="it | broke"),
            )
        )
        self.assertIn("| cell | MB/s | 400 (300-500) | 100 | 200 | 2.00 x | 0.500 x |", text)
        self.assertIn("| topics |  | kafka | 1 | it \\| broke |", text)

    def test_figures_without_a_broker_have_a_table_of_their_own(self) -> None:
        cell, made = durability.round_of(5_000), []
        for round_ms, met in ((1.5, True), (1.7, False)):
            figures = {"journal p50 ms": round_ms, "one fdatasync p99 ms": 0.32}
            made = results(
                Row(durability.SCENARIO, cell, "", 0, figures),
                Row(durability.SCENARIO, durability.produce(5_000), OTTLA, 0, {"broker CPU s/GiB": 2}),
                Row(durability.SCENARIO, durability.produce(5_000), KAFKA, 0, {"broker CPU s/GiB": 9}),
            )
            self.assertIs(verdict(made, "flush round with 5,000 dirty partitions, p50", "fdatasync").met, met)
        self.assertIs(verdict(made, "produce spread over 5,000 partitions, broker CPU s/GiB", "Kafka").met, False)
        self.assertIn(f"| {cell} | journal p50 ms | 1.70 |", document.markdown(made))

    def test_only_what_is_between_the_markers_is_replaced(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "performance.md"
            path.write_text(f"# Title\n\n{document.BEGIN}\nold\n{document.END}\n\nafter\n", encoding="utf-8")
            document.write(path, "new")
            self.assertEqual(
                path.read_text(encoding="utf-8"), f"# Title\n\n{document.BEGIN}\nnew\n{document.END}\n\nafter\n"
            )
            path.write_text("no markers", encoding="utf-8")
            with self.assertRaises(ValueError):
                document.write(path, "new")


if __name__ == "__main__":
    unittest.main()
