"""The driver of Debian's kcat: one kcat process per operation, and one per consumer that stays."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .. import processes
from ..record import decode_bytes, encode_bytes
from .librdkafka import settings
from .serve import DriverError, serve

# No admin client, no offsets of acknowledgements, no timestamps on produced records, no commits on request; a consumer
# gives up when its only broker goes away.
CAPABILITIES = [
    "assign",
    "cooperative",
    "empties",
    "eof",
    "group",
    "idempotence",
    "log-append-time",
    "lz4",
    "name-errors",
    "null-headers",
    "offset-reset",
    "ordered-headers",
    "range",
    "roundrobin",
    "snappy",
    "static",
    "zstd",
]

LIBRARY_LOG = re.compile(r"%\d\|")

COMMAND_SECONDS = 55.0
BULK_SECONDS = 400.0

# Lengths first, so that keys and values may hold any byte. -1 is null.
FORMAT = r"%p %o %T %K %S %h\n%k%s\n"

ERROR_TEXTS = {
    "Broker: Message size too large": "MESSAGE_TOO_LARGE",
    "Broker: Unknown topic or partition": "UNKNOWN_TOPIC_OR_PARTITION",
    "Local: Unknown topic": "UNKNOWN_TOPIC_OR_PARTITION",
    "Local: Unknown partition": "UNKNOWN_TOPIC_OR_PARTITION",
    "Broker: Invalid topic": "INVALID_TOPIC_EXCEPTION",
    "Broker: Offset out of range": "OFFSET_OUT_OF_RANGE",
    "Local: Message timed out": "DELIVERY_TIMEOUT",
    "Local: No offset to automatically reset to": "NO_OFFSET_AND_NO_RESET",
}


def error_in(text: str) -> DriverError | None:
    """The error kcat prints, under Kafka's name where it is a known one."""
    # The library's own log lines (`%4|time|…`) tell of what it deals with itself.
    text = "\n".join(line for line in text.splitlines() if not LIBRARY_LOG.match(line))
    for known, name in ERROR_TEXTS.items():
        if known in text:
            return DriverError(name, text.strip())
    return None


def properties(config: dict[str, str]) -> list[str]:
    merged = settings(config)
    return [argument for key, value in merged.items() for argument in ("-X", f"{key}={value}")]


def read_records(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Parses what FORMAT prints until the stream ends."""
    while True:
        head = stream.readline()
        if not head.endswith(b"\n"):
            return
        partition, offset, timestamp, key_length, value_length, headers = head[:-1].split(b" ", 5)
        key = read_exactly(stream, int(key_length))
        value = read_exactly(stream, int(value_length))
        if stream.read(1) != b"\n":
            return
        yield {
            "partition": int(partition),
            "offset": int(offset),
            "timestamp_type": None,
            "timestamp": int(timestamp),
            "key": encode_bytes(key),
            "value": encode_bytes(value),
            "headers": parse_headers(headers.decode()),
        }


def read_exactly(stream: BinaryIO, length: int) -> bytes | None:
    return None if length < 0 else stream.read(length)


def parse_headers(text: str) -> list[list[Any]]:
    """`name=value,name=value`; kcat prints a null value as NULL."""
    headers = []
    for each in text.split(",") if text else []:
        name, _, value = each.partition("=")
        headers.append([name, None if value == "NULL" else encode_bytes(value.encode())])
    return headers


class KcatConsumer:
    """A kcat process in consumer or group mode, its output read as it comes."""

    # Eager: «(memberid …): assigned: t [0], t [1]»; cooperative: «incremental assignment of 2 partition(s) (…): t [0]».
    REBALANCED = re.compile(r"% Group \S+ rebalanced.*?(assign|revoke).*: (.*)$")
    PARTITION = re.compile(r"(\S+) \[(\d+)\]")

    def __init__(
        self,
        bootstrap: str,
        config: dict[str, str],
        group: str | None,
        topics: list[str] | None,
        assign: list[list[Any]] | None,
    ):
        config = {"auto.offset.reset": "earliest", **config}
        self._lock = threading.Lock()
        self._records: list[dict[str, Any]] = []
        self._history: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._assignment: set[tuple[str, int]] = set()
        self._received = 0
        self._last_words = ""
        self._cooperative = "cooperative" in config.get("partition.assignment.strategy", "")
        command = ["kcat", "-b", bootstrap, "-u", "-f", FORMAT, *properties(config)]
        if topics is not None:
            command += ["-G", group or "", *topics]
        else:
            ((topic, partition, offset),) = assign or []
            start = {"-1": "end", "-2": "beginning"}.get(str(offset), str(offset))
            command += ["-C", "-t", topic, "-p", str(partition), "-o", start]
            self._assignment = {(topic, partition)}
        # In the driver's session: who kills the driver's kills it too.
        self._process = processes.start(
            command,
            own_session=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            bufsize=0,
        )
        threading.Thread(target=self._read_output, daemon=True).start()
        threading.Thread(target=self._read_messages, daemon=True).start()

    def state(self) -> dict[str, Any]:
        if self._process.poll() is not None:
            raise DriverError("KCAT_ENDED", f"kcat ended by itself with {self._process.returncode}: {self._last_words}")
        with self._lock:
            return {
                "assignment": sorted(map(list, self._assignment)),
                "history": list(self._history),
                "received": self._received,
                "errors": list(self._errors),
            }

    def take(self) -> list[dict[str, Any]]:
        with self._lock:
            taken, self._records = self._records, []
            return taken

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise DriverError("CLOSE_TIMEOUT", "kcat goes on after SIGINT") from None

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for record in read_records(os.fdopen(os.dup(self._process.stdout.fileno()), "rb")):
            with self._lock:
                self._received += 1
                self._records.append({**record, "arrived_ns": time.monotonic_ns()})

    def _read_messages(self) -> None:
        assert self._process.stderr is not None
        for raw in os.fdopen(os.dup(self._process.stderr.fileno()), "rb"):
            line = raw.decode(errors="replace").rstrip()
            self._last_words = line
            rebalanced = self.REBALANCED.search(line)
            with self._lock:
                if rebalanced:
                    self._rebalanced(rebalanced.group(1), rebalanced.group(2))
                else:
                    known = error_in(line)
                    if known is not None:
                        self._errors.append(known.name)

    def _rebalanced(self, event: str, listed: str) -> None:
        partitions = {(topic, int(partition)) for topic, partition in self.PARTITION.findall(listed)}
        name = "assigned" if event == "assign" else "revoked"
        self._history.append({"event": name, "partitions": sorted(map(list, partitions))})
        if event == "revoke":
            self._assignment -= partitions
        elif self._cooperative:
            self._assignment |= partitions
        else:
            self._assignment = partitions


class KcatDriver:
    def __init__(self) -> None:
        self._bootstrap = ""
        self._consumers: dict[str, KcatConsumer] = {}

    def hello(self, bootstrap: str) -> dict[str, Any]:
        self._bootstrap = bootstrap
        text = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=False).stdout
        kcat, library = re.findall(r"Version (\S+).*?librdkafka (\S+)", text, re.DOTALL)[0]
        return {"client": "kcat", "version": f"kcat {kcat}, librdkafka {library}", "capabilities": CAPABILITIES}

    def metadata(self, topic: str | None = None) -> dict[str, Any]:
        chosen = [] if topic is None else ["-t", topic]
        found = json.loads(self._run(["-L", "-J", *chosen])[0])
        brokers = []
        for broker in found["brokers"]:
            host, _, port = broker["name"].rpartition(":")
            brokers.append({"id": broker["id"], "host": host, "port": int(port)})
        topics = {}
        for described in found["topics"]:
            if "error" in described:
                if topic is not None:
                    raise error_in(described["error"]) or DriverError("METADATA", described["error"])
                continue
            topics[described["topic"]] = [
                {
                    "partition": each["partition"],
                    "leader": each["leader"],
                    "replicas": [replica["id"] for replica in each["replicas"]],
                }
                for each in described["partitions"]
            ]
        return {"brokers": brokers, "topics": topics}

    def _why_refused(self, topic: str, error: DriverError) -> DriverError:
        """What the broker says of a topic: the library may say of each that is wrong that it is unknown."""
        if "Local: Unknown topic" not in str(error):
            return error
        try:
            self.metadata(topic)
        except DriverError as told:
            return told
        return error

    def produce(self, topic: str, records: list[dict[str, Any]], config: dict[str, str]) -> dict[str, Any]:
        """One kcat per run of records that differ in their values only: a file each."""
        results: list[dict[str, Any]] = []
        sent_ns = time.monotonic_ns()
        with tempfile.TemporaryDirectory() as directory:
            for batch in self._runs(records):
                paths: list[str] = []
                for record in batch:
                    path = Path(directory) / str(len(results) + len(paths))
                    path.write_bytes(decode_bytes(record["value"]) or b"")
                    paths.append(str(path))
                first = batch[0]
                command = ["-P", "-t", topic, "-p", str(first["partition"])]
                if first["key"] is not None:
                    command += ["-k", (decode_bytes(first["key"]) or b"").decode()]
                for name, value in first["headers"]:
                    decoded = decode_bytes(value)
                    command += ["-H", name if decoded is None else f"{name}={decoded.decode()}"]
                command += properties(config)
                try:
                    if decode_bytes(first["value"]):
                        self._run([*command, *paths])
                    else:
                        self._produce_empty(command, first, len(batch))
                    results += [{"partition": first["partition"], "offset": None}] * len(batch)
                except DriverError as error:
                    error = self._why_refused(topic, error)
                    results += [{"error": error.name, "message": str(error)}] * len(batch)
        return {"results": results, "sent_ns": sent_ns, "acked_ns": time.monotonic_ns()}

    def read(
        self,
        topic: str,
        partitions: list[int],
        start: dict[str, Any],
        count: int | None,
        config: dict[str, str],
        timeout_s: float,
    ) -> dict[str, Any]:
        records: list[dict[str, Any]] = []
        config = {"auto.offset.reset": "none", **config}
        at = start["at"]
        point = {"beginning": "beginning", "end": "end", "timestamp": f"s@{start.get('value')}"}
        for partition in partitions:
            command = ["-C", "-t", topic, "-p", str(partition), "-o", point.get(at, str(start.get("value")))]
            command += ["-f", FORMAT, *properties(config)]
            # A count is for one partition: kcat stops by itself only per process.
            command += ["-e"] if count is None else ["-c", str(count)]
            with tempfile.TemporaryFile() as output:
                self._run(command, stdout=output, timeout_s=timeout_s)
                output.seek(0)
                records += list(read_records(output))
        return {"records": records, "ended": partitions if count is None else []}

    def offsets(self, topic: str, partition: int, at: str, timestamp: int | None = None) -> int:
        asked = {"beginning": -2, "end": -1}.get(at, timestamp)
        output = self._run(["-Q", "-t", f"{topic}:{partition}:{asked}"])[0]
        offset = int(output.strip().split()[-1])
        # librdkafka's OFFSET_END stands for «no such record».
        return -1 if at == "timestamp" and offset < 0 else offset

    def produce_lines(self, path: str, topic: str, config: dict[str, str]) -> dict[str, Any]:
        # The default queue is bounded by 100,000 messages; kcat waits when it is full.
        arguments = ["-P", "-t", topic, "-p", "0", "-l", *properties({"linger.ms": "20", **config})]
        # An empty line is no message for kcat; the bulk files have none.
        self._run([*arguments, path], timeout_s=BULK_SECONDS)
        with open(path, "rb") as lines:
            return {"count": sum(1 for _ in lines)}

    def digest(self, topic: str, config: dict[str, str]) -> dict[str, Any]:
        command = ["kcat", "-b", self._bootstrap, "-C", "-e", "-q", "-t", topic, "-p", "0", "-o", "beginning"]
        command += ["-f", r"%s\n", *properties(config)]
        hashed = processes.start(command, own_session=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert hashed.stdout is not None and hashed.stderr is not None
        counted = subprocess.run(["sha256sum"], stdin=hashed.stdout, capture_output=True, text=True, check=True)
        errors = hashed.stderr.read().decode(errors="replace")
        if hashed.wait() != 0:
            raise error_in(errors) or DriverError("KCAT_FAILED", errors)
        end = self.offsets(topic, 0, "end")
        return {"count": end, "sha256": counted.stdout.split()[0]}

    def consumer_open(
        self,
        id: str,
        config: dict[str, str],
        group: str | None = None,
        topics: list[str] | None = None,
        assign: list[list[Any]] | None = None,
    ) -> None:
        self._consumers[id] = KcatConsumer(self._bootstrap, config, group, topics, assign)

    def consumer_state(self, id: str) -> dict[str, Any]:
        return self._consumers[id].state()

    def consumer_take(self, id: str) -> dict[str, Any]:
        return {"records": self._consumers[id].take()}

    def consumer_close(self, id: str) -> None:
        self._consumers.pop(id).close()

    def _run(
        self, arguments: list[str], stdout: Any = subprocess.PIPE, timeout_s: float = COMMAND_SECONDS
    ) -> tuple[str, str]:
        command = ["kcat", "-b", self._bootstrap, *arguments]
        try:
            done = subprocess.run(
                command, stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            text = (error.stderr or b"").decode(errors="replace")
            raise error_in(text) or DriverError("TIMEOUT", f"{' '.join(command)}: {text}") from None
        errors = done.stderr.decode(errors="replace")
        known = error_in(errors)
        if known is not None:
            raise known
        if done.returncode != 0:
            raise DriverError("KCAT_FAILED", f"{' '.join(command)} ended with {done.returncode}: {errors}")
        return (done.stdout or b"").decode(errors="replace"), errors

    def _produce_empty(self, command: list[str], record: dict[str, Any], count: int) -> None:
        """kcat passes over empty files and lines; a line that is a key and its delimiter is a record."""
        key = decode_bytes(record["key"])
        if not key:
            raise DriverError("NOT_POSSIBLE", "kcat sends no record without both a key and a value")
        without_key = [part for index, part in enumerate(command) if "-k" not in command[max(0, index - 1) : index + 1]]
        null = ["-Z"] if record["value"] is None else []
        with tempfile.NamedTemporaryFile() as lines:
            lines.write((key + b"\x1f\n") * count)
            lines.flush()
            self._run([*without_key, *null, "-K", "\x1f", "-l", lines.name])

    @staticmethod
    def _runs(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        run: list[dict[str, Any]] = []
        for record in records:
            if run and KcatDriver._shape(record) != KcatDriver._shape(run[0]):
                yield run
                run = []
            run.append(record)
        if run:
            yield run

    @staticmethod
    def _shape(record: dict[str, Any]) -> tuple[Any, ...]:
        return (
            record["key"],
            record["partition"],
            str(record["headers"]),
            len(record["value"] or "") == 0,
            record["value"] is None,
        )


def translate(error: Exception) -> DriverError:
    return DriverError(type(error).__name__, str(error))


if __name__ == "__main__":
    driver = KcatDriver()
    operations = {name: getattr(driver, name) for name in dir(driver) if not name.startswith("_")}
    serve(operations, translate)
