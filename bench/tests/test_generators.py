"""What the load generators print, as they print it."""

import json
import unittest
from typing import ClassVar

from ottla_bench import generators
from ottla_bench.failure import CellFailed
from ottla_bench.generators import Done

PRODUCED = (
    "% 300000 messages produced (30000000 bytes), 300000 delivered (offset 299999, 0 failed) in 1263ms: 237529 msgs/s "
    "and 23.75 MB/s, 0 produce failures, 0 in queue, no compression\n"
)
CONSUMED = "% 300000 messages (30000000 bytes) consumed in 200ms: 1500000 msgs/s (150.00 MB/s)\n"
JAVA_PRODUCED = (
    "105000 records sent, 23648.649 records/sec (2.26 MB/sec), 1463.39 ms avg latency, 3411.00 ms max latency, "
    "1433 ms 50th, 3196 ms 95th, 3389 ms 99th, 3410 ms 99.9th.\n"
)
JAVA_CONSUMED = (
    "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, "
    "fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n"
    "2026-11-21 18:20:01:000, 2026-11-21 18:20:03:000, 10.0000, 5.0000, 105000, 52500.0, 200, 1800, 5.5556, 58333.3\n"
)


class Rdkafka(unittest.TestCase):
    def test_produced(self) -> None:
        done = generators.rdkafka_produced(PRODUCED, 300_000, 100)
        self.assertEqual(done, Done(300_000, 30_000_000, 1.263))
        self.assertAlmostEqual(done.metrics()["MB/s"], 23.75, 2)

    def test_the_last_summary_counts(self) -> None:
        early = PRODUCED.replace("300000 delivered", "5 delivered").replace("1263ms", "9ms")
        self.assertEqual(generators.rdkafka_produced(early + PRODUCED, 300_000, 100).seconds, 1.263)

    def test_undelivered_records_fail_the_cell(self) -> None:
        for output in (
            PRODUCED.replace("0 failed", "3 failed"),
            PRODUCED.replace("300000 delivered", "299999 delivered"),
            "no summary",
        ):
            with self.assertRaises(CellFailed):
                generators.rdkafka_produced(output, 300_000, 100)

    def test_consumed(self) -> None:
        self.assertEqual(generators.rdkafka_consumed(CONSUMED, 300_000), Done(300_000, 30_000_000, 0.2))
        with self.assertRaises(CellFailed):
            generators.rdkafka_consumed(CONSUMED, 300_001)


class Load(unittest.TestCase):
    def test_figures_and_latencies(self) -> None:
        line = '{"records": 10, "bytes": 1000, "seconds": 0.5, "p50_ms": 0.25, "p99_ms": 1, "p999_ms": 2, "max_ms": 3}'
        done, latencies = generators.load_done(f"a warning\n{line}\n")
        self.assertEqual(done, Done(10, 1000, 0.5))
        self.assertEqual(latencies, {"p50 ms": 0.25, "p99 ms": 1, "p99.9 ms": 2})

    def test_other_output_fails_the_cell(self) -> None:
        for output in ("", "killed", '{"records": 1}', "3"):
            with self.assertRaises(CellFailed):
                generators.load_done(output)


class Java(unittest.TestCase):
    def test_produced(self) -> None:
        done = generators.java_produced(JAVA_PRODUCED, 105_000, 100)
        self.assertEqual((done.records, done.bytes), (105_000, 10_500_000))
        self.assertAlmostEqual(done.seconds, 4.44, 2)
        with self.assertRaises(CellFailed):
            generators.java_produced(JAVA_PRODUCED, 105_001, 100)

    def test_consumed_leaves_out_the_join(self) -> None:
        self.assertEqual(generators.java_consumed(JAVA_CONSUMED, 105_000), Done(105_000, 10 << 20, 1.8))
        for output in ("", JAVA_CONSUMED.replace("fetch.time.ms", "other")):
            with self.assertRaises(CellFailed):
                generators.java_consumed(output, 105_000)

    def test_latencies(self) -> None:
        output = "Avg latency: 0.5400 ms\nPercentiles: 50th = 0, 99th = 8, 99.9th = 17\n"
        self.assertEqual(generators.java_latencies(output), {"p50 ms": 0, "p99 ms": 8, "p99.9 ms": 17})
        with self.assertRaises(CellFailed):
            generators.java_latencies("Avg latency: 0.5400 ms")


class Perf(unittest.TestCase):
    DOCUMENT: ClassVar = {
        "format_version": 1,
        "produced": {"records": 10, "bytes": 1000},
        "elapsed_seconds": 0.5,
        "errors": {},
        "latency_us": {"acknowledged": {"p50": 250, "p99": 1000, "p99_9": 2000}},
    }

    def test_figures_and_latencies(self) -> None:
        done, latencies = generators.perf_done(json.dumps(self.DOCUMENT), "produced", 10)
        self.assertEqual(done, Done(10, 1000, 0.5))
        self.assertEqual(latencies, {"p50 ms": 0.25, "p99 ms": 1, "p99.9 ms": 2})

    def test_what_is_wrong_fails_the_cell(self) -> None:
        for wrong in ({"format_version": 2}, {"errors": {"TIMED_OUT": 1}}, {"produced": {"records": 9, "bytes": 900}}):
            with self.assertRaises(CellFailed):
                generators.perf_done(json.dumps({**self.DOCUMENT, **wrong}), "produced", 10)
        with self.assertRaises(CellFailed):
            generators.perf_done("", "produced", 10)


if __name__ == "__main__":
    unittest.main()
