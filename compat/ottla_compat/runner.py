"""Runs the chosen suites for the chosen clients and collects what came out."""

import shutil
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .brokers import Broker, BrokerFactory, ExternalBroker
from .driver import Drivers
from .failure import CannotRun, Failed
from .scenario import WIRE, Context, Options, Program, Scenario, Suite

NO_BROKER = "127.0.0.1:1"


@dataclass
class Outcome:
    suite: str
    client: str
    scenario: str
    seconds: float
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.error is None


class Runner:
    """One run: a shared broker for the suites that need only one, drivers that live as long as it does."""

    def __init__(
        self,
        factory: BrokerFactory | None,
        given: ExternalBroker | None,
        directory: Path,
        clients: Sequence[str],
        options: Options,
        only: str | None,
        keep: bool,
    ):
        self._factory = factory
        self._shared: Broker | None = given
        self._directory = directory
        self._clients = clients
        self._options = options
        self._only = only
        self._keep = keep
        self._drivers = Drivers(directory / "drivers")
        self._starting = threading.Lock()
        self._asking = threading.Lock()
        self._known_capabilities: dict[str, frozenset[str]] = {}
        self._brokers = 0
        self.outcomes: list[Outcome] = []
        self.versions: dict[str, str] = {}

    @property
    def broker_kind(self) -> str:
        return self._factory.name if self._factory else "given"

    def run(self, suites: Sequence[Suite]) -> None:
        try:
            for suite in suites:
                self._run_suite(suite)
            self._end_shared()
        finally:
            try:
                self._drivers.close()
            finally:
                if self._shared is not None:
                    self._shared.close()

    def _end_shared(self) -> None:
        """What the last scenario left behind may have ended the broker after it: no scenario would tell."""
        if self._shared is None:
            return
        outcome = Outcome("(all)", "(none)", "the shared broker ends well", 0.0)
        began = time.monotonic()
        try:
            self._drivers.close()
            self._shared.end_well()
        except Failed as error:
            outcome.error = f"{error}\nthe broker's last words:\n{self._shared.log_tail(8)}"
            outcome.seconds = time.monotonic() - began
            self.outcomes.append(outcome)
            print(line_of(outcome), flush=True)

    def count(self, suites: Sequence[Suite], broker_kind: str) -> dict[str, dict[str, int]]:
        """How many scenarios a run has, by suite and client."""
        counts: dict[str, dict[str, int]] = {}
        try:
            for suite in suites:
                for client in suite.clients:
                    number = len(list(self._chosen(suite, client, broker_kind)))
                    if number:
                        by_client = counts.setdefault(suite.name, {})
                        by_client[client] = by_client.get(client, 0) + number
        finally:
            self._drivers.close()
        return counts

    def _run_suite(self, suite: Suite) -> None:
        clients = [client for client in suite.clients if client in self._clients]
        if not clients:
            return
        with ThreadPoolExecutor(len(clients) if suite.side_by_side else 1) as threads:
            for running in [threads.submit(self._run_client, suite, client) for client in clients]:
                running.result()

    def _run_client(self, suite: Suite, client: str) -> None:
        for scenario in self._chosen(suite, client, self.broker_kind):
            began = time.monotonic()
            outcome = Outcome(suite.name, client, scenario.name, 0.0)
            try:
                outcome.notes = self._run_scenario(suite, client, scenario)
            except Exception as error:  # a scenario's failure must not hide the others'
                outcome.error = describe(error)
            outcome.seconds = time.monotonic() - began
            self.outcomes.append(outcome)
            print(line_of(outcome), flush=True)

    def _chosen(self, suite: Suite, client: str, broker_kind: str) -> Iterator[Scenario | Program]:
        for scenario in suite.scenarios:
            if self._only is not None and self._only not in scenario.name:
                continue
            if scenario.name in suite.only_ottla and broker_kind == "kafka":
                continue
            if self._options.ci and not suite.in_bounded_run(client, scenario.name):
                continue
            if client != WIRE and not scenario.required() <= self._capabilities(client):
                continue
            yield scenario

    def _capabilities(self, client: str) -> frozenset[str]:
        """A driver says what it can do without a broker to talk to."""
        with self._asking:
            if client not in self._known_capabilities:
                driver = self._drivers.get(client, NO_BROKER)
                self.versions[client] = driver.version
                self._known_capabilities[client] = driver.capabilities
                self._drivers.close(NO_BROKER)
            return self._known_capabilities[client]

    def _run_scenario(self, suite: Suite, client: str, scenario: Scenario | Program) -> list[str]:
        directory = self._directory / suite.name / f"{client}-{safe(scenario.name)}"
        directory.mkdir(parents=True)
        if suite.own_brokers or not suite.needs_broker:
            broker = self._needed_factory(suite).create(directory / "broker")
        else:
            broker = self._shared_broker()
        context = Context(client, scenario.name, broker, self._factory, self._drivers, directory, self._options)
        log_start = broker.log_size()
        own = broker is not self._shared
        try:
            try:
                scenario.run(context)
            finally:
                context.leave_everything()
            if own:
                broker.end_well()
            else:
                broker.check_alive()
            broker.check_no_panic(log_start)
        except Exception as error:
            words = broker.log_tail(8, log_start)
            if words:
                error.add_note(f"the broker's last words:\n{words}")
            raise
        finally:
            if own:
                try:
                    self._drivers.close(broker.bootstrap)
                finally:
                    broker.close()
        if not self._keep:
            shutil.rmtree(directory)
        return context.notes

    def _needed_factory(self, suite: Suite) -> BrokerFactory:
        if self._factory is None:
            raise CannotRun(f"the suite {suite.name} stops and starts brokers: it cannot run with --bootstrap")
        return self._factory

    def _shared_broker(self) -> Broker:
        """The broker of all suites that need only one; a fresh one after it died."""
        with self._starting:
            if self._shared is not None and self._shared.exit_code() is not None:
                self._shared.close()
                self._drivers.close(self._shared.bootstrap)
                self._shared = None
            if self._shared is None:
                assert self._factory is not None
                self._brokers += 1
                started = self._factory.create(self._directory / f"shared-{self._brokers}")
                started.start()
                self._shared = started
            return self._shared


def describe(error: Exception) -> str:
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", []))
    if isinstance(error, (Failed, CannotRun)):
        return f"{error}{notes}"
    return "".join(traceback.format_exception(error)) + notes


def line_of(outcome: Outcome) -> str:
    mark = "ok  " if outcome.passed else "FAIL"
    notes = f"  ({'; '.join(outcome.notes)})" if outcome.notes else ""
    line = f"{mark} {outcome.suite:15} {outcome.client:12} {outcome.scenario}  {outcome.seconds:.1f} s{notes}"
    if outcome.error is not None:
        line += "\n" + "\n".join(f"       {each}" for each in outcome.error.splitlines())
    return line


def safe(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in name)
