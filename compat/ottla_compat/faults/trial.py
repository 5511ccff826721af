"""A broker behind the fault shim, under load from a real client and from bare sockets that note what they were told."""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..failure import Failed, check, shorten
from ..scenario import Context
from ..waiting import wait_until
from . import journal
from .journal import Loss
from .raw_client import WINDOW, Gone, RawCommitter, RawProducer, log_end
from .results import Entry
from .shim import Shim
from .verdict import Told, Verdict, acks_of_file, judge

PARTITIONS = 6
RECORDS_PER_S = 300
BATCHES_PER_S = 60
VALUE_BYTES = 80
RESUME_SECONDS = 60.0
STRIKE_SECONDS = 30.0
STOP_SECONDS = 330.0
EXIT_SECONDS = 30.0
# Small and often, so that rolls and index files are among what faults hit. Nothing expires.
TOPIC = {"segment.ms": "1000", "segment.bytes": "1048576", "retention.ms": "-1"}

# How long a life lasts before its fault: a random while, not a wait for something.
SHORTEST_LIFE_S = 0.05
LONGEST_LIFE_S = 0.8


class Trial:
    """One row: lives of one broker, each ended or disturbed by a fault, and the promises that must hold after each."""

    def __init__(
        self,
        context: Context,
        entry: Entry,
        directories: list[Path] | None = None,
        settings: Mapping[str, str] | None = None,
        with_journal: bool = True,
    ):
        self.context = context
        self.entry = entry
        self.broker = context.broker
        self.chance = random.Random(f"{context.options.seed} {entry.row}")
        self.broker.settings.update(settings or {})
        if directories is not None:
            self.broker.settings["log.dirs"] = ",".join(map(str, directories))
        self.directories = directories or [self.broker.data_directory]
        self.shim = Shim(context.directory, self.directories, with_journal)
        self.broker.environment = self.shim.environment()
        self.topic = ""
        self.producers: list[RawProducer] = []
        self.committer: RawCommitter | None = None
        self.loads: dict[str, Path] = {}
        self._once: dict[str, bool] = {}
        self._first_life = True
        self.loss = Loss()

    # Lives

    def start(self) -> None:
        self.broker.start()
        self.shim.check_attached()

    def kill(self) -> None:
        """The process dies; the page cache stays."""
        self.broker.kill()
        self._gone()

    def settle(self) -> None:
        """Nothing but the process died: what was not synced is still not synced."""
        if self.shim.has_journal:
            journal.settle(self.shim)

    def lose_power(self, leave: str | None = None) -> Loss:
        """The process is gone already; now its machine dies too."""
        self.shim.disarm()
        loss = journal.lose_power(self.shim, self.chance, leave or self.chance.choice(self._LEFT))
        self.loss.add(loss)
        return loss

    _LEFT = (journal.DROP, journal.ARBITRARY, journal.ARBITRARY, journal.ARBITRARY)

    def restart(self) -> None:
        """After a death, without rules: serves again, and keeps what it promised."""
        self.shim.disarm()
        self.start()
        self.check_promises()
        self.progress()

    def stops_by_itself(self) -> None:
        """A node that cannot keep its promises ends with exit code 1."""
        code = self.broker.wait_exit(EXIT_SECONDS)
        check(code == 1, f"the node ended with {code}:\n{self.broker.log_tail()}")
        self._gone()

    def _gone(self) -> None:
        if self._first_life and self.shim.has_journal:
            # What the shim must have seen if it sees everything.
            logs = [path for root in self.directories for path in root.glob(f"{self.topic}-*/*.log")]
            journal.check_known(self.shim, [path for path in logs if path.stat().st_size > 0])
        self._first_life = False

    def live(self, longest_s: float = LONGEST_LIFE_S) -> None:
        time.sleep(self.chance.uniform(SHORTEST_LIFE_S, longest_s))

    def await_strike(self, count: int, slot: int = 0) -> None:
        """The rule has struck so many calls."""
        wait_until(
            f"{count} calls to be struck",
            lambda: self.shim.struck(slot) >= count,
            STRIKE_SECONDS,
            lambda: f"{self.shim.struck(slot)} struck",
            interval_s=0.002,
        )

    # Load

    @contextmanager
    def load(
        self,
        real_clients: bool = True,
        commits: bool = True,
        configs: Mapping[str, str] | None = None,
        in_flight: int = 5,
    ) -> Iterator[None]:
        """Producers with acks=all and acks=1, of librdkafka and of bare sockets, and commits of offsets. `in_flight` is of
        librdkafka's requests."""
        self.topic = self.context.create_topic("t", PARTITIONS, {**TOPIC, **(configs or {})})
        host, port, seed = self.broker.host, self.broker.port, self.context.options.seed
        for name, acks in (("raw-all", -1), ("raw-one", 1)):
            producer = RawProducer(name, host, port, self.topic, PARTITIONS, acks, BATCHES_PER_S, seed)
            self.producers.append(producer)
        if commits:
            self.committer = RawCommitter(self.context.name("group"), host, port, self.topic)
        for worker in self._workers():
            worker.start()
        if real_clients:
            self._start_load("librdkafka-all", "all", True, in_flight)
            self._start_load("librdkafka-one", "1", False, in_flight)
        try:
            self.progress()
            yield
        finally:
            for worker in self._workers():
                worker.ask_to_stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The raw clients have heard everything the dead broker told them, and say nothing until this is over."""
        for worker in self._workers():
            worker.pause()
        wait_until("the clients to be silent", lambda: all(each.is_idle() for each in self._workers()), RESUME_SECONDS)
        yield
        for worker in self._workers():
            worker.resume()

    def _workers(self) -> list[RawProducer | RawCommitter]:
        return [*self.producers, *([self.committer] if self.committer else [])]

    def _start_load(self, name: str, acks: str, once: bool, in_flight: int) -> None:
        self.loads[name] = self.context.directory / f"acks-{name}"
        self._once[name] = once
        self.context.driver().call(
            "load_start",
            id=name,
            topic=self.topic,
            partitions=PARTITIONS,
            ack_path=str(self.loads[name]),
            records_per_s=RECORDS_PER_S,
            size=VALUE_BYTES,
            acks=acks,
            idempotence=once,
            in_flight=in_flight,
        )

    def progress(self, partitions: list[int] | None = None) -> None:
        """Everybody gets acknowledgements again; with `partitions`, the raw producers for these."""
        wanted = list(range(PARTITIONS)) if partitions is None else partitions
        before = {(each.name, part): each.acked_of(part) for each in self.producers for part in wanted}
        commits = self.committer.acked if self.committer else 0
        driver = self.context.driver() if self.loads and partitions is None else None
        states = {name: driver.call("load_state", id=name) for name in self.loads} if driver else {}

        def further() -> bool:
            for worker in self._workers():
                worker.check()
            for name, state in states.items():
                now = driver.call("load_state", id=name) if driver else state
                if now["failures"]:
                    raise Failed(f"{name}: {shorten(now)}")
                if now["acked"] <= state["acked"]:
                    return False
            # The group's partition may be among those that are not.
            if self.committer and partitions is None and self.committer.acked <= commits:
                return False
            return all(each.acked_of(part) > before[each.name, part] for each in self.producers for part in wanted)

        wait_until("acknowledgements to go on", further, RESUME_SECONDS, self._seen)

    def answered(self) -> None:
        """What the raw producers have under way is answered, the answers before a fault included that nobody has read yet."""
        before = {each.name: each.answered() for each in self.producers}
        wait_until(
            "what is under way to be answered",
            lambda: all(each.answered() >= before[each.name] + WINDOW for each in self.producers),
            RESUME_SECONDS,
            self._seen,
        )

    def _seen(self) -> str:
        told = {each.name: (each.acked_count(), dict(each.refused())) for each in self.producers}
        commits = (self.committer.acked, dict(self.committer.refused)) if self.committer else None
        return f"acknowledged and refused: {told}, commits: {commits}; broker: {self.broker.log_tail(5)}"

    # Promises

    def ends(self, seconds: float = RESUME_SECONDS) -> dict[int, int]:
        """The log ends as the broker tells them."""

        def all_known() -> dict[int, int] | None:
            try:
                found = {
                    partition: log_end(self.broker.host, self.broker.port, self.topic, partition)
                    for partition in range(PARTITIONS)
                }
            except Gone:
                return None
            return found if min(found.values()) >= 0 else None

        return wait_until("every partition to tell its end", all_known, seconds, self.broker.log_tail)

    def check_promises(self) -> None:
        """Nothing the raw clients were told is gone. Content is compared at the end."""
        promised = [each.promised_ends() for each in self.producers]
        committed = self.committer.acked if self.committer else 0
        ends = self.ends()
        for producer, by_partition in zip(self.producers, promised, strict=True):
            for partition, end in by_partition.items():
                check(
                    ends[partition] >= end,
                    f"partition {partition} ends at {ends[partition]}, {producer.name} was told of {end}",
                )
        if self.committer:
            found = self.committer.committed()
            check(committed <= found <= self.committer.sent, f"{found} is committed, {committed} was acknowledged")

    def finish(self, given_up: int = 0) -> Verdict:
        """Everything read back and compared with everything promised; notes and counts it. `given_up` records were
        acknowledged, and are known to be lost as they may be."""
        self.shim.disarm()
        for worker in self._workers():
            worker.stop()
        self.check_promises()
        told = [Told(each.name, each.acked, each.sent(), once=True) for each in self.producers]
        for name, path in self.loads.items():
            stopped = self.context.driver().call("load_stop", wait_s=STOP_SECONDS, id=name)
            check(not stopped["failures"] and not stopped["left"], f"{name} could not deliver: {shorten(stopped)}")
            sent = [-(-(stopped["sent"] - partition) // PARTITIONS) for partition in range(PARTITIONS)]
            told.append(Told(name, lambda path=path: acks_of_file(path), sent, self._once[name], complete=True))
        dump = self.context.directory / "dump"
        self.context.driver().call("dump", wait_s=300, topic=self.topic, partitions=PARTITIONS, path=str(dump))
        verdict = judge(told, dump)
        self.shim.check_active()
        self._count(verdict)
        check(not verdict.failed(), f"{verdict}: {verdict.examples()}")
        check(verdict.acked + given_up > 20 * self.entry.injected, f"too little load to mean anything: {verdict}")
        return verdict

    def _count(self, verdict: Verdict) -> None:
        self.entry.acknowledged = verdict.acked
        self.entry.lost = len(verdict.lost)
        if self.committer:
            self.entry.count("commits acknowledged", self.committer.acked)
        refused = sum(sum(each.refused().values()) for each in self.producers)
        self.entry.count("batches refused", refused)
        if self.loss != Loss():
            for what, number in vars(self.loss).items():
                self.entry.count(what.replace("_", " "), number)
        counts = ", ".join(f"{number} {what}" for what, number in self.entry.counts.items() if number)
        self.context.note(f"{self.entry.injected} faults; {verdict}; {counts}")
