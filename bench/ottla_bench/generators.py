"""The load generators: how each is called, and what each says at its end.

Outside ones: librdkafka's rdkafka_performance, `load` on the same librdkafka, Java's tools. Ours: `ottla perf`.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import install
from .failure import CellFailed
from .processes import run_to_end

# A cell takes seconds; on a machine with other load, or with a broker that stalls, it may take longer.
SECONDS = 120

_PRODUCED = re.compile(r"% \d+ messages produced \(\d+ bytes\), (\d+) delivered \(offset -?\d+, (\d+) failed\) in (\d+)ms")
_CONSUMED = re.compile(r"% (\d+) messages \((\d+) bytes\) consumed in (\d+)ms")
_JAVA_PRODUCED = re.compile(r"^(\d+) records sent, ([\d.]+) records/sec", re.MULTILINE)
_JAVA_LATENCY = re.compile(r"50th\s*=\s*(\d+),\s*99th\s*=\s*(\d+),\s*99\.9th\s*=\s*(\d+)")


@dataclass(frozen=True)
class Done:
    """A load that ended well."""

    records: int
    bytes: int
    seconds: float

    def metrics(self) -> dict[str, float]:
        return {"records/s": self.records / self.seconds, "MB/s": self.bytes / 1e6 / self.seconds}


@dataclass(frozen=True)
class Generators:
    """Paths of what was installed; `java_tools` is a class path, absent when the run has no Java; `ottla` is absent when
    the binary has no `perf`."""

    rdkafka_performance: Path
    load: Path
    java_tools: str | None
    ottla: Path | None
    payloads: Path

    @staticmethod
    def installed(java: bool, ottla: Path, directory: Path) -> "Generators":
        known = subprocess.run([ottla, "perf", "--help"], capture_output=True, check=False).returncode == 0
        return Generators(
            install.rdkafka_performance(),
            install.load(),
            install.tools_classpath() if java else None,
            ottla if known else None,
            directory,
        )

    def payload_file(self, size: int) -> Path:
        """Payloads for generators that read them from a file; the same that `load` sends."""
        path = self.payloads / f"payloads-{size}"
        if not path.exists():
            command = [str(self.load), "payloads", "--size", str(size), "--count", "4096"]
            path.write_text(run_to_end(command, SECONDS), encoding="ascii")
        return path

    def rdkafka_produce(
        self, bootstrap: str, topic: str, size: int, records: int, acks: str, settings: dict[str, str]
    ) -> Done:
        command = [str(self.rdkafka_performance), "-P", "-b", bootstrap, "-t", topic, "-s", str(size), "-i", "600000"]
        command += ["-c", str(records), "-a", "-1" if acks == "all" else acks]
        for key, value in {"queue.buffering.max.messages": "1000000", **settings}.items():
            command += ["-X", f"{key}={value}"]
        return rdkafka_produced(run_to_end(command, SECONDS), records, size)

    def rdkafka_consume(self, bootstrap: str, topic: str, size: int, records: int, partitions: int) -> Done:
        command = [str(self.rdkafka_performance), "-C", "-b", bootstrap, "-t", topic, "-i", "600000"]
        for partition in range(partitions):
            command += ["-p", str(partition)]
        # By default librdkafka rests for a second whenever 100,000 records wait in it.
        settings = {"queued.min.messages": "1000000", "fetch.queue.backoff.ms": "10"}
        for key, value in settings.items():
            command += ["-X", f"{key}={value}"]
        return rdkafka_consumed(run_to_end([*command, "-o", "beginning", "-c", str(records)], SECONDS), records)

    def load_produce(
        self,
        bootstrap: str,
        topic: str,
        size: int,
        records: int,
        settings: dict[str, str],
        partitions: int = 1,
        rate: int = 0,
        in_a_row: int = 100,
    ) -> tuple[Done, dict[str, float]]:
        """The load, and its latencies in milliseconds. So many records in a row go to one partition."""
        command = [str(self.load), "produce", "--brokers", bootstrap, "--topic", topic, "--size", str(size)]
        command += ["--records", str(records), "--rate", str(rate), "--partitions", str(partitions)]
        command += ["--in-a-row", str(in_a_row)]
        return load_done(run_to_end([*command, *_settings(settings)], SECONDS))

    def load_end_to_end(
        self, bootstrap: str, topic: str, size: int, records: int, settings: dict[str, str], rate: int = 0
    ) -> tuple[Done, dict[str, float]]:
        command = [str(self.load), "end-to-end", "--brokers", bootstrap, "--topic", topic, "--size", str(size)]
        command += ["--records", str(records), "--rate", str(rate)]
        return load_done(run_to_end([*command, *_settings(settings)], SECONDS))

    def java_produce(
        self, bootstrap: str, topic: str, size: int, records: int, acks: str, settings: dict[str, str]
    ) -> Done:
        command = [*self._java(), "ProducerPerformance", "--topic", topic, "--num-records", str(records)]
        command += ["--throughput", "-1", "--payload-file", str(self.payload_file(size)), "--bootstrap-server", bootstrap]
        command += ["--reporting-interval", "600000", "--command-property", f"acks={acks}"]
        command += [f"{key}={value}" for key, value in settings.items()]
        return java_produced(run_to_end(_class_of(command), SECONDS), records, size)

    def java_consume(self, bootstrap: str, topic: str, records: int) -> Done:
        command = [*self._java(), "ConsumerPerformance", "--bootstrap-server", bootstrap, "--topic", topic]
        command += ["--num-records", str(records), "--timeout", "60000"]
        return java_consumed(run_to_end(_class_of(command), SECONDS), records)

    def java_end_to_end(self, bootstrap: str, topic: str, size: int, records: int) -> dict[str, float]:
        """One record at a time; the tool's percentiles are whole milliseconds."""
        command = [*self._java(), "EndToEndLatency", bootstrap, topic, str(records), "all", str(size)]
        return java_latencies(run_to_end(_class_of(command), SECONDS))

    def perf_produce(
        self, bootstrap: str, topic: str, size: int, records: int, options: list[str]
    ) -> tuple[Done, dict[str, float]]:
        """`ottla perf produce`, with what it measures of latencies; those of an open loop count from when a record was due."""
        command = [str(self.ottla), "perf", "produce", topic, "--bootstrap-server", bootstrap, "--json"]
        command += ["--record-size", str(size), "--records", str(records), *options]
        return perf_done(run_to_end(command, SECONDS), "produced", records)

    def perf_consume(self, bootstrap: str, topic: str, records: int) -> Done:
        command = [str(self.ottla), "perf", "consume", topic, "--bootstrap-server", bootstrap, "--json"]
        command += ["--from-beginning", "--records", str(records)]
        return perf_done(run_to_end(command, SECONDS), "consumed", records)[0]

    def _java(self) -> list[str]:
        if self.java_tools is None:
            raise CellFailed("this run has no Java tools")
        return [install.java(), "-Xmx512M", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", self.java_tools]


def _class_of(command: list[str]) -> list[str]:
    """The tools are named by their class; the package is the same for all."""
    tools = ("ProducerPerformance", "ConsumerPerformance", "EndToEndLatency")
    return [f"org.apache.kafka.tools.{part}" if part in tools else part for part in command]


def _settings(settings: dict[str, str]) -> list[str]:
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def rdkafka_produced(output: str, records: int, size: int) -> Done:
    found = _PRODUCED.findall(output)
    if not found:
        raise CellFailed(f"rdkafka_performance printed no summary: {output[-600:]}")
    delivered, failed, milliseconds = map(int, found[-1])
    if delivered != records or failed:
        raise CellFailed(f"{delivered} of {records} records delivered, {failed} failed")
    return Done(delivered, delivered * size, max(milliseconds, 1) / 1000)


def rdkafka_consumed(output: str, records: int) -> Done:
    found = _CONSUMED.findall(output)
    if not found:
        raise CellFailed(f"rdkafka_performance printed no summary: {output[-600:]}")
    consumed, read, milliseconds = map(int, found[-1])
    if consumed < records:
        raise CellFailed(f"{consumed} of {records} records consumed")
    return Done(consumed, read, max(milliseconds, 1) / 1000)


def load_done(output: str) -> tuple[Done, dict[str, float]]:
    try:
        fields = json.loads(output.strip().splitlines()[-1])
        done = Done(fields["records"], fields["bytes"], fields["seconds"])
    except (IndexError, KeyError, ValueError, TypeError):
        raise CellFailed(f"load printed no summary: {output[-600:]}") from None
    names = {"p50_ms": "p50 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms"}
    return done, {name: fields[field] for field, name in names.items() if field in fields}


def java_produced(output: str, records: int, size: int) -> Done:
    found = _JAVA_PRODUCED.findall(output)
    if not found or int(found[-1][0]) != records:
        raise CellFailed(f"ProducerPerformance did not send {records} records: {output[-600:]}")
    return Done(records, records * size, records / float(found[-1][1]))


def java_consumed(output: str, records: int) -> Done:
    """The last line under the header; the time spent joining the group is not counted."""
    lines = [[field.strip() for field in line.split(",")] for line in output.splitlines() if line.count(",") >= 9]
    if len(lines) < 2:
        raise CellFailed(f"ConsumerPerformance printed no figures: {output[-600:]}")
    figures = dict(zip(lines[0], lines[-1], strict=False))
    try:
        consumed = int(figures["data.consumed.in.nMsg"])
        mebibytes = float(figures["data.consumed.in.MB"])
        seconds = float(figures["fetch.time.ms"]) / 1000
    except (KeyError, ValueError):
        raise CellFailed(f"ConsumerPerformance's figures are not known: {figures}") from None
    if consumed < records:
        raise CellFailed(f"{consumed} of {records} records consumed")
    return Done(consumed, round(mebibytes * (1 << 20)), max(seconds, 0.001))


def java_latencies(output: str) -> dict[str, float]:
    found = _JAVA_LATENCY.search(output)
    if not found:
        raise CellFailed(f"EndToEndLatency printed no percentiles: {output[-600:]}")
    return {name: float(value) for name, value in zip(("p50 ms", "p99 ms", "p99.9 ms"), found.groups(), strict=True)}


def perf_done(output: str, direction: str, records: int) -> tuple[Done, dict[str, float]]:
    """`direction` is `produced` or `consumed`."""
    try:
        document = json.loads(output)
        if document["format_version"] != 1:
            raise CellFailed(f"ottla perf speaks format {document['format_version']}, not 1")
        counted, errors = document[direction], document["errors"]
        done = Done(counted["records"], counted["bytes"], document["elapsed_seconds"])
        latencies = document.get("latency_us", {}).get("acknowledged", {})
        names = {"p50": "p50 ms", "p99": "p99 ms", "p99_9": "p99.9 ms"}
        found = {name: latencies[field] / 1000 for field, name in names.items() if field in latencies}
    except (KeyError, ValueError, TypeError, AttributeError):
        raise CellFailed(f"ottla perf printed no summary: {output[-600:]}") from None
    if done.records < records or errors or done.seconds <= 0:
        raise CellFailed(f"ottla perf: {done.records} of {records} records {direction}, errors {errors}")
    return done, found
