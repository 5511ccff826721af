"""One broker under load: topics that come and go with each cell, and the broker's processor time around each load."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from ..brokers import Broker
from ..depth import Depth
from ..failure import CellFailed
from ..generators import Done, Generators
from ..memory import touch
from ..processes import tree_bytes
from ..results import Recorder, Row
from ..waiting import wait_until

GIB = 1 << 30
# What may remain of deleted topics when the next cell begins.
LEFT_BYTES = 256 << 20


@dataclass
class Session:
    broker: Broker
    generators: Generators
    depth: Depth
    recorder: Recorder
    run: int
    wanted: frozenset[str]
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    @contextmanager
    def topic(self, partitions: int = 1) -> Iterator[str]:
        """A topic that can be used, and is gone with its files afterwards."""
        name = f"bench-{next(self._numbers)}"
        with self.broker.connect() as connection:
            connection.create_topics({name: partitions})
            wait_until(f"leaders of {name}", lambda: connection.led_partitions([name])[name] == partitions, 180)
        try:
            yield name
        finally:
            with self.broker.connect() as connection:
                connection.delete_topics([name])
        wait_until("the deleted topic's files to go", lambda: tree_bytes(self.broker.data) < LEFT_BYTES, 90, 0.05)

    def record(self, scenario: str, cell: str, metrics: dict[str, float]) -> None:
        if scenario in self.wanted:
            self.recorder.add(Row(scenario, cell, self.broker.kind, self.run, metrics))

    @contextmanager
    def cell(self, scenario: str, cell: str) -> Iterator[None]:
        """A failure within is the cell's result; the session goes on if its broker does."""
        try:
            yield
        except CellFailed as error:
            self.recorder.add(Row(scenario, cell, self.broker.kind, self.run, error=str(error)))
            assert self.broker.pid, "raises when the broker is gone"

    def measure(self, load: Callable[[], Done], writes: int = 0) -> tuple[Done, dict[str, float]]:
        """Runs a load that writes about so many bytes; its figures and the broker's."""
        if writes:
            touch(self.broker.data.parent, writes * 5 // 4)
        before = self.broker.cpu_seconds()
        done = load()
        cpu = self.broker.cpu_seconds() - before
        metrics = done.metrics()
        metrics["broker CPU s/GiB"] = cpu / (done.bytes / GIB)
        metrics["records/broker CPU s"] = done.records / max(cpu, 1e-9)
        metrics["RSS after MiB"] = self.broker.resident_mib()
        return done, metrics
