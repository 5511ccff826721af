"""What the drivers of kafka-python and aiokafka share: what a consumer keeps, a load that goes on, names of errors."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .serve import DriverError

# May be under way at once: a producer that buffers without end tells nothing.
IN_FLIGHT = 1000


class Kept:
    """Records, rebalances and errors of one consumer, until they are asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[dict[str, Any]] = []
        self._history: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._received = 0
        self._assignment: set[tuple[str, int]] = set()

    def add(self, record: dict[str, Any]) -> None:
        with self._lock:
            self._records.append(record)
            self._received += 1

    def fail(self, name: str) -> None:
        with self._lock:
            self._errors.append(name)

    def rebalanced(self, event: str, partitions: Iterable[tuple[str, int]]) -> None:
        partitions = sorted(partitions)
        with self._lock:
            if event == "assigned":
                self._assignment.update(partitions)
            else:
                self._assignment.difference_update(partitions)
            self._history.append({"event": event, "partitions": [list(each) for each in partitions]})

    def owns(self, partitions: Iterable[tuple[str, int]]) -> None:
        """What the consumer itself says it has."""
        with self._lock:
            self._assignment = set(partitions)

    def state(self) -> dict[str, Any]:
        with self._lock:
            return {
                "assignment": [list(each) for each in sorted(self._assignment)],
                "history": list(self._history),
                "received": self._received,
                "errors": list(self._errors),
            }

    def take(self) -> dict[str, Any]:
        with self._lock:
            taken, self._records = self._records, []
            return {"records": taken}


class PacedLoad:
    """Counts and acknowledgement lines of a load; the driver sends what `next` gives and tells `done`."""

    def __init__(self, name: str, partitions: int, ack_path: str, records_per_s: int, size: int):
        self._name = name
        self._partitions = partitions
        self._pause = 1 / records_per_s
        self._padding = "." * size
        self._acks = open(ack_path, "w", encoding="ascii")
        self._lock = threading.Lock()
        self._sequences = [0] * partitions
        self._sent = 0
        self._acked = 0
        self._failures: list[str] = []
        self._due = time.monotonic()

    def next(self) -> tuple[int, int, bytes]:
        """Partition, sequence and value of the next record."""
        with self._lock:
            partition = self._sent % self._partitions
            sequence = self._sequences[partition]
            self._sequences[partition] += 1
            self._sent += 1
        return partition, sequence, f"{self._name} {sequence} {self._padding}".encode()

    def wait_s(self) -> float:
        """How long until the next record is due: no pace is caught up with after a pause."""
        now = time.monotonic()
        self._due = max(self._due + self._pause, now - 1)
        return max(0.0, self._due - now)

    def full(self) -> bool:
        with self._lock:
            return self._left() >= IN_FLIGHT

    def done(self, partition: int, sequence: int, offset: int | None, failure: str | None) -> None:
        with self._lock:
            if failure is None:
                self._acked += 1
                self._acks.write(f"{partition} {sequence} {offset}\n")
            else:
                self._failures.append(f"sequence {sequence}: {failure}")

    def _left(self) -> int:
        return self._sent - self._acked - len(self._failures)

    def state(self) -> dict[str, Any]:
        with self._lock:
            return {
                "sent": self._sent,
                "acked": self._acked,
                "failures": self._failures[:5],
                "left": self._left(),
            }

    def close(self) -> None:
        self._acks.close()


def translated(
    config: Mapping[str, str], names: Mapping[str, tuple[str, Callable[[str], Any]] | None]
) -> dict[str, Any]:
    """Settings under a client's own names. `None`: it has no such notion, and does without."""
    found = {}
    for key, value in config.items():
        if key not in names:
            raise DriverError("UNSUPPORTED_SETTING", f"{key}={value} has no counterpart here")
        known = names[key]
        if known is not None:
            found[known[0]] = known[1](value)
    return found


def truth(value: str) -> bool:
    return value == "true"


def seconds(value: str) -> float:
    return int(value) / 1000
