"""What a scenario is, and what it sees while it runs."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .brokers import Broker, BrokerFactory
from .driver import CLIENTS, Driver, Drivers
from .failure import Failed
from .record import Record
from .waiting import wait_until

# Scenarios of no client library: requests in JSON and raw bytes.
WIRE = "wire"

# What these run in the bounded run is nearly everything; the others have one protocol with them to speak, after all.
THOROUGH_CLIENTS = ("python", "java", "kcat")


@dataclass(frozen=True)
class Options:
    """What the command line set for the heavy suites."""

    # The bounded run of .ci/run.
    ci: bool
    bulk_records: int
    kills: int
    record: bool
    seed: int
    # Faults per row of the suite faults; None is what each row needs.
    faults: int | None = None


class Context:
    """One run of one scenario by one client."""

    def __init__(
        self,
        client: str,
        scenario: str,
        broker: Broker,
        factory: BrokerFactory | None,
        drivers: Drivers,
        directory: Path,
        options: Options,
    ):
        # Where no client is under test, the Java driver sends requests and arranges things.
        self.client = "java" if client == WIRE else client
        self.broker = broker
        self.factory = factory
        self.drivers = drivers
        self.directory = directory
        self.options = options
        self.notes: list[str] = []
        # Per topic and partition, what was produced there, by offset.
        self.journal: dict[str, dict[int, list[Record]]] = {}
        # Where steps leave what later steps ask for.
        self.remembered: dict[str, Any] = {}
        self.members: dict[str, str] = {}
        self._prefix = f"{scenario}.{client}.{uuid.uuid4().hex[:6]}"

    def name(self, short: str) -> str:
        """The name of a topic, group or handle of this run: no two runs meet."""
        return f"{self._prefix}.{short}"

    def driver(self, process: str = "main", client: str | None = None) -> Driver:
        return self.drivers.get(client or self.client, self.broker.bootstrap, process)

    def admin(self, function: str = "admin") -> Driver:
        """The client itself if it has the function, or all of them, else one that has."""
        own = self.driver()
        return own if function in own.capabilities else self.driver(client="python")

    def create_topic(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        full_name = self.name(topic)
        admin = self.admin("create_topic")
        admin.call("create_topic", name=full_name, partitions=partitions, configs=dict(configs or {}))
        # Apache Kafka answers before its brokers have heard of the topic.
        wait_until("the new topic in metadata", lambda: full_name in admin.call("metadata")["topics"], 20)
        return full_name

    def sent(self, topic: str, partition: int = 0) -> list[Record]:
        return self.journal.setdefault(topic, {}).setdefault(partition, [])

    def note(self, text: str) -> None:
        """A figure worth printing beside the result."""
        self.notes.append(text)

    def leave_everything(self) -> None:
        """Closes the consumers a failed scenario left open."""
        for member, process in list(self.members.items()):
            # It may be gone with its process, closed already, or the reason why the scenario failed.
            with suppress(Failed):
                self.driver(process).call("consumer_close", id=self.name(member))
        self.members.clear()
        self.drivers.close_extra(self.client)


class Step:
    """One thing to do or to see. Steps are data: the same ones for every client."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def run(self, context: Context) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Scenario:
    """Steps in order. `needs` adds capabilities that no step's type tells."""

    name: str
    steps: Sequence[Step]
    needs: frozenset[str] = frozenset()

    def required(self) -> frozenset[str]:
        return self.needs.union(*(step.needs for step in self.steps))

    def run(self, context: Context) -> None:
        for number, step in enumerate(self.steps, 1):
            try:
                step.run(context)
            except Exception as error:
                error.add_note(f"in step {number} of {len(self.steps)}: {_short(step)}")
                raise


@dataclass(frozen=True)
class Program:
    """A scenario that starts and stops brokers, speaks raw bytes, or counts: a function."""

    name: str
    body: Callable[[Context], None]
    needs: frozenset[str] = frozenset()

    def required(self) -> frozenset[str]:
        return self.needs

    def run(self, context: Context) -> None:
        self.body(context)


@dataclass(frozen=True)
class Suite:
    """Scenarios under one name, for real clients or for the runner's own sockets (`wire`)."""

    name: str
    scenarios: Sequence[Scenario | Program]
    clients: tuple[str, ...] = CLIENTS
    # Each scenario gets a broker of its own, not started yet; the shared one is not used.
    own_brokers: bool = False
    # Clients run side by side: for suites that wait more than they work.
    side_by_side: bool = False
    # Off for suites that compare programs, not brokers.
    needs_broker: bool = True

    def runs_with_given_broker(self) -> bool:
        """Whether a broker that cannot be stopped is enough, and of any use."""
        return self.needs_broker and not self.own_brokers

    # Scenarios about what only Ottla promises, by name.
    only_ottla: frozenset[str] = frozenset()

    # Of the bounded run: what every client runs, or (`ci_more`) only those that always run everything. None is all.
    ci: frozenset[str] | None = None
    ci_more: frozenset[str] | None = None

    def in_bounded_run(self, client: str, scenario: str) -> bool:
        chosen = self.ci_more if client in (*THOROUGH_CLIENTS, WIRE) else self.ci
        return chosen is None or scenario in chosen


def _short(step: Step) -> str:
    text = repr(step)
    return text if len(text) < 240 else f"{text[:240]}…"
