"""A real broker whose disk, power and clock fail: nothing acknowledged is lost, and what cannot be promised is refused.

Each row is a program that injects one kind of fault again and again under load, and looks after each at what was
promised. What was tried is appended to results/ (see `faults/results.py`), passed or not.
"""

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..brokers.base import answers_api_versions
from ..failure import Failed, check, check_equal
from ..faults import journal, results
from ..faults.raw_client import KAFKA_STORAGE_ERROR, Ack, Gone, fetch, log_directories
from ..faults.results import Entry, recorded
from ..faults.shim import FOREVER, LIE, Rule, Shim
from ..faults.trial import PARTITIONS, RESUME_SECONDS, Trial
from ..faults.verdict import Told, judge
from ..scenario import WIRE, Context, Program, Suite
from ..waiting import wait_until
from ..wire.batch import check_batches

# Faults of each row: in full, and in the bounded run.
FAULTS = {
    "kill-9": (200, 3),
    "power-loss": (100, 3),
    "failed-sync": (100, 2),
    "failed-sync-of-one-directory": (20, 1),
    "failed-write": (50, 1),
    "failed-read": (50, 1),
    "no-space": (100, 2),
    "full-file-system": (20, 1),
    "slow-sync": (100, 3),
    "clock-jumps": (40, 3),
    "page-cache-kill-9": (50, 2),
    "page-cache-power-loss": (20, 2),
    "lying-disk": (10, 5),
}

SMALL_FILE_SYSTEM_MIB = 96
# So many power losses hit a new segment whose name is not durable.
SOME_NAMES = 20
# So many times without room hit a bare client's batch, not only others' and indexes.
SOME_REFUSALS = 10
HOUR_S = 3600.0
YEAR_S = 365 * 24 * HOUR_S
# Of librdkafka's requests where a broker both refuses and dies. What follows a refused batch is out of order then, for
# which librdkafka begins a new epoch, and under that it sends again what the broker wrote before it died, in whichever
# partition (its issue 4953). One request at a time leaves no gap.
ONE_AT_A_TIME = 1
# How long a node may take to notice that its last directory failed.
SETTLING_S = 1.5
# A partition that has not told its end by then is offline.
OFFLINE_SECONDS = 10.0
# Of the producers' times when the broker's clock is years behind.
ANY_TIMESTAMP = {"message.timestamp.after.max.ms": str((1 << 63) - 1)}


def row(name: str, body: Callable[[Context, Entry, int], None]) -> Program:
    """A program whose outcome is appended to the results."""

    def run(context: Context) -> None:
        options = context.options
        count = options.faults or FAULTS[name][1 if options.ci else 0]
        with recorded("faults", name, options.seed, options.ci) as entry:
            body(context, entry, count)

    return Program(name, run, frozenset({"load"}))


def kill_9(context: Context, entry: Entry, count: int) -> None:
    """The process dies at random moments; the page cache stays."""
    trial = Trial(context, entry, with_journal=False)
    trial.start()
    with trial.load():
        while entry.injected < count:
            trial.live()
            trial.kill()
            entry.injected += 1
            trial.restart()
        trial.finish()


def power_loss(context: Context, entry: Entry, count: int) -> None:
    """The machine dies at random moments: what was not synced is gone, in whole, in part or torn."""
    trial = Trial(context, entry)
    trial.start()
    with trial.load():
        while entry.injected < count:
            if trial.chance.random() < 0.7:
                # A slow disk has more to lose.
                trial.shim.arm(Rule(("sync",), "", 0, 0, FOREVER, trial.chance.choice((5, 30, 200))))
                trial.shim.arm(Rule(("sync-directory",), "", 0, 0, FOREVER, trial.chance.choice((5, 200, 900))), slot=1)
            trial.live()
            trial.kill()
            entry.injected += 1
            trial.lose_power()
            trial.restart()
        check(trial.loss.files_at_risk > count, f"there was hardly anything to lose: {trial.loss}")
        check(trial.loss.bytes_dropped > 0, f"nothing was lost: {trial.loss}")
        check(trial.loss.names_undone > 0 or count < SOME_NAMES, f"no name was lost: {trial.loss}")
        trial.finish()


def fails_the_directory(rules: Callable[[Trial], Rule]) -> Callable[[Context, Entry, int], None]:
    """The only directory fails: nothing more is acknowledged, the node stops, and a restart finds what was promised."""

    def body(context: Context, entry: Entry, count: int) -> None:
        trial = Trial(context, entry)
        trial.start()
        with trial.load():
            while entry.injected < count:
                trial.shim.arm(rules(trial))
                trial.await_strike(1)
                entry.injected += trial.shim.struck()
                # What the failed sync covered is gone, as are pages that were never synced: whatever of it had been
                # acknowledged would be missed.
                trial.stops_by_itself()
                trial.lose_power()
                trial.restart()
            trial.finish()

    return body


def a_failed_sync(trial: Trial) -> Rule:
    kind = trial.chance.choice(("sync", "sync", "sync", "sync-directory"))
    # Often it fails only once: a second try would succeed, and mean nothing.
    return Rule((kind,), trial.topic, errno.EIO, trial.chance.randint(0, 30 if kind == "sync" else 5))


def a_failed_write(trial: Trial) -> Rule:
    return Rule(("write",), trial.topic, errno.EIO, trial.chance.randint(0, 60), partial=trial.chance.random() < 0.5)


def failed_sync_of_one_directory(context: Context, entry: Entry, count: int) -> None:
    """One of two directories fails: its partitions are refused, the others go on, a restart heals."""
    directories = [context.directory / "broker" / name for name in ("data-a", "data-b")]
    trial = Trial(context, entry, directories)
    trial.start()
    with trial.load():
        while entry.injected < count:
            bad = trial.chance.choice(directories)
            inside = {int(path.name.rsplit("-", 1)[1]) for path in bad.glob(f"{trial.topic}-*")}
            outside = sorted(set(range(PARTITIONS)) - inside)
            check(inside and outside, f"{bad} has the partitions {inside}: nothing would be shown")
            trial.shim.arm(Rule(("sync",), f"{bad}/{trial.topic}", errno.EIO, trial.chance.randint(0, 20)))
            trial.await_strike(1)
            entry.injected += 1
            wait_until(
                f"{bad} to be offline",
                lambda: log_directories(trial.broker.host, trial.broker.port).get(str(bad)) == KAFKA_STORAGE_ERROR,
                RESUME_SECONDS,
            )
            trial.answered()
            acked = {part: [each.acked_of(part) for each in trial.producers] for part in inside}
            refused = sum(each.refused()[KAFKA_STORAGE_ERROR] for each in trial.producers)
            trial.progress(outside)
            wait_until(
                "produces to the failed directory to be refused",
                lambda: sum(each.refused()[KAFKA_STORAGE_ERROR] for each in trial.producers) > refused,
                RESUME_SECONDS,
            )
            now = {part: [each.acked_of(part) for each in trial.producers] for part in inside}
            check_equal("acknowledged of the failed directory since", now, acked)
            healthy = [str(each) for each in directories if each != bad]
            found = log_directories(trial.broker.host, trial.broker.port)
            check(all(found[each] == 0 for each in healthy), f"the healthy directory is offline too: {found}")
            trial.kill()
            trial.lose_power()
            trial.restart()
        trial.finish()


def failed_read(context: Context, entry: Entry, count: int) -> None:
    """A read of records fails: no wrong bytes are served, and after a restart all are there."""
    trial = Trial(context, entry)
    trial.start()
    with trial.load():
        while entry.injected < count:
            # A new process has nothing in memory: reads of what was there before go to the files.
            trial.kill()
            trial.settle()
            trial.restart()
            partition = trial.chance.randrange(PARTITIONS)
            end = trial.ends()[partition]
            trial.shim.arm(Rule(("read",), f"{trial.topic}-{partition}/", errno.EIO, trial.chance.randint(0, 2)))
            ended = read_until_struck(trial, partition, end)
            entry.injected += trial.shim.struck()
            entry.count("nodes stopped", int(ended))
            trial.shim.disarm()
            if ended:
                trial.stops_by_itself()
                trial.settle()
                trial.restart()
            _, records = fetch(trial.broker.host, trial.broker.port, trial.topic, partition, 0, 1 << 20)
            check(check_batches(records) > 0, f"nothing is read of partition {partition} after the fault")
        trial.finish()


def read_until_struck(trial: Trial, partition: int, end: int) -> bool:
    """Reads from offsets before `end`; each answer is right, an error, or none. Whether the node ended."""
    deadline = time.monotonic() + RESUME_SECONDS
    while not trial.shim.struck():
        check(time.monotonic() < deadline, "no read of the file was struck")
        offset = trial.chance.randrange(min(50, end))
        with suppress(Gone):
            error, records = fetch(trial.broker.host, trial.broker.port, trial.topic, partition, offset, 1 << 16)
            check(error in (0, KAFKA_STORAGE_ERROR), f"a read that fails is answered with error {error}")
            check_batches(records)
    # A node whose last directory failed ends; one that only failed to send goes on.
    settled = time.monotonic() + SETTLING_S
    while time.monotonic() < settled and trial.broker.exit_code() is None:
        time.sleep(0.02)
    return trial.broker.exit_code() is not None


def no_space(context: Context, entry: Entry, count: int) -> None:
    """Writes find no room for a while: refused and nothing else; the same process goes on when there is room."""
    trial = Trial(context, entry)
    trial.start()
    with trial.load(in_flight=ONE_AT_A_TIME):
        pid = trial.broker.pid
        while entry.injected < count:
            times = trial.chance.choice((1, 1, 5, 40))
            partial = trial.chance.random() < 0.5
            trial.shim.arm(Rule(("write",), trial.topic, errno.ENOSPC, trial.chance.randint(0, 40), times, 0, partial))
            trial.await_strike(times)
            entry.injected += 1
            entry.count("writes without room", times)
            if trial.chance.random() < 0.2:
                trial.kill()
                entry.count("kills while full or just after")
                trial.lose_power()
                trial.restart()
                pid = trial.broker.pid
            else:
                trial.progress()
                check_equal("the broker's process", trial.broker.pid, pid)
                check(trial.broker.exit_code() is None, "a full disk has stopped the node")
                found = log_directories(trial.broker.host, trial.broker.port)
                check(not any(found.values()), f"a full disk has taken a directory offline: {found}")
        refused = sum(sum(each.refused().values()) for each in trial.producers)
        check(refused > 0 or count < SOME_REFUSALS, "nobody was refused")
        trial.finish()


def full_file_system(context: Context, entry: Entry, count: int) -> None:
    """A small file system is filled to the last byte and freed again."""
    mounted = context.directory / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_FILE_SYSTEM_MIB}m", "tmpfs", str(mounted)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        entry.not_run = f"no file system can be mounted here: {done.stderr.strip()}"
        context.note(f"not run: {entry.not_run}")
        return
    try:
        fill_and_free(Trial(context, entry, [mounted / "data"], with_journal=False), mounted / "ballast", count)
    finally:
        context.broker.close()
        subprocess.run(["umount", str(mounted)], check=True)


def fill_and_free(trial: Trial, ballast: Path, count: int) -> None:
    entry = trial.entry
    trial.start()
    with trial.load(in_flight=ONE_AT_A_TIME):
        pid = trial.broker.pid
        while entry.injected < count:
            refused = sum(sum(each.refused().values()) for each in trial.producers)
            fill(ballast)
            wait_until(
                "produces to be refused",
                lambda: sum(sum(each.refused().values()) for each in trial.producers) >= refused + 5,
                RESUME_SECONDS,
                trial.broker.log_tail,
            )
            entry.injected += 1
            for partition in range(PARTITIONS):
                error, records = fetch(trial.broker.host, trial.broker.port, trial.topic, partition, 0, 1 << 16)
                check(error == 0 and check_batches(records) > 0, f"a full disk stops reads: error {error}")
            if trial.chance.random() < 0.3:
                trial.kill()
                entry.count("kills while full")
                ballast.unlink()
                trial.restart()
                pid = trial.broker.pid
                continue
            ballast.unlink()
            trial.progress()
            check_equal("the broker's process", trial.broker.pid, pid)
        found = log_directories(trial.broker.host, trial.broker.port)
        check(not any(found.values()), f"a full disk has taken a directory offline: {found}")
        trial.finish()


def fill(ballast: Path) -> None:
    """Takes all the room there is."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    size = 1 << 20
    while size:
        try:
            os.write(descriptor, bytes(size))
        except OSError as error:
            check(error.errno == errno.ENOSPC, f"filling: {error}")
            size //= 2
    os.close(descriptor)


def slow_sync(context: Context, entry: Entry, count: int) -> None:
    """Syncs that take up to two seconds: acknowledgements wait, everything else goes on, nothing is given up."""
    trial = Trial(context, entry)
    trial.start()
    with trial.load():
        while entry.injected < count:
            delay_ms = trial.chance.choice((50, 300, 2000))
            times = 1 if delay_ms == 2000 else trial.chance.randint(1, 10)
            trial.shim.arm(Rule(("sync", "sync-directory"), trial.topic, 0, trial.chance.randint(0, 10), times, delay_ms))
            trial.await_strike(1)
            began = time.monotonic()
            check(answers_api_versions(trial.broker.host, trial.broker.port), "no answer while a sync is slow")
            took_ms = (time.monotonic() - began) * 1000
            if delay_ms == 2000:
                check(took_ms < delay_ms / 2, f"a request that needs no disk waited {took_ms:.0f} ms for a sync")
            trial.await_strike(times)
            entry.injected += times
            trial.progress()
        trial.finish()


def clock_jumps(context: Context, entry: Entry, count: int) -> None:
    """The wall clock jumps forward and back, also while the process is dead."""
    # Age is measured with that clock, as in Kafka: what expires by it would be gone rightly.
    trial = Trial(context, entry, settings={"offsets.retention.minutes": str((1 << 31) - 1)})
    trial.start()
    with trial.load(configs=ANY_TIMESTAMP):
        while entry.injected < count:
            jump_s = trial.chance.choice((-10 * YEAR_S, -YEAR_S, -HOUR_S, -5.0, 0.0, 5.0, HOUR_S, YEAR_S, 10 * YEAR_S))
            trial.shim.set_clock_offset(jump_s)
            entry.injected += 1
            trial.progress()
            trial.live()
            # Producers are forgotten a day after their last record, so a retry after such a jump is not known: not here.
            if jump_s < HOUR_S and trial.chance.random() < 0.4:
                trial.kill()
                entry.count("kills under a wrong clock")
                trial.settle()
                trial.restart()
        check(trial.shim.clock_readings_moved() > 0, "the broker never read the clock that was moved")
        trial.shim.set_clock_offset(0)
        trial.finish()


def page_cache_kill_9(context: Context, entry: Entry, count: int) -> None:
    """Without durability a dead process loses nothing: its page cache stays."""
    trial = Trial(context, entry, settings={"ottla.durability": "page-cache"}, with_journal=False)
    trial.start()
    with trial.load():
        while entry.injected < count:
            trial.live()
            trial.kill()
            entry.injected += 1
            trial.restart()
        trial.finish()


def page_cache_power_loss(context: Context, entry: Entry, count: int) -> None:
    """Without durability a power loss takes the end of the log, as it is said to, and nothing in the middle of it.

    It also shows that the power losses of the other rows bite: here they must take something.
    """
    trial = Trial(context, entry, settings={"ottla.durability": "page-cache"})
    trial.start()
    gone = 0
    with trial.load(real_clients=False, commits=False):
        while entry.injected < count:
            trial.live()
            trial.kill()
            with trial.paused():
                entry.injected += 1
                trial.lose_power(journal.DROP)
                trial.start()
                ends = trial.ends()
                for producer in trial.producers:
                    lost = {ack for ack in producer.acked() if ack.offset >= ends[ack.partition]}
                    producer.forget_acks(lost)
                    gone += len(lost)
            trial.progress()
        entry.count("acknowledged records gone, as said", gone)
        check(gone > 0, "the power losses took nothing that was acknowledged: they do not bite")
        trial.finish(given_up=gone)


SELF_TEST = """
import os, sys
root = sys.argv[1]
def path(name): return os.path.join(root, name)
def make(name, *steps):
    fd = os.open(path(name), os.O_RDWR | os.O_CREAT)
    for step in steps:
        if step == "sync": os.fsync(fd)
        elif step == "failed":
            try: os.fdatasync(fd)
            except OSError as error: assert error.errno == 5, error
            else: raise SystemExit("the sync did not fail")
        elif isinstance(step, int): os.ftruncate(fd, step)
        else: os.pwrite(fd, step[1], step[0])
    os.close(fd)
def sync_names():
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
make("synced", (0, b"kept"), "sync")
make("tail", (0, b"kept"), "sync", (4, b"lost"))
make("overwritten", (0, b"a" * 9000), "sync", (4000, b"b" * 3000))
make("cut", (0, b"a" * 9000), "sync", 100)
make("removed", (0, b"back"), "sync")
make("renamed", (0, b"old name"), "sync")
make("replaced", (0, b"first"), "sync")
make("replacement", (0, b"second"), "sync")
make("fails", (0, b"kept"), "sync", (4, b"lost"), "failed", "sync", (8, b"kept"), "sync")
sync_names()
os.unlink(path("removed"))
os.rename(path("renamed"), path("new name"))
os.rename(path("replacement"), path("replaced"))
make("unnamed", (0, b"content is durable, the name is not"), "sync")
os.mkdir(path("directory"))
"""

AFTER_SELF_TEST = {
    "synced": b"kept",
    "tail": b"kept",
    "overwritten": b"a" * 9000,
    "cut": b"a" * 9000,
    "removed": b"back",
    "renamed": b"old name",
    "replaced": b"first",
    "replacement": b"second",
    "fails": b"kept\0\0\0\0kept",
}


def shim_self_test(context: Context) -> None:
    """The shim itself: what was synced stays, everything else is undone, and a failed sync is never made good."""
    root = context.directory / "files"
    root.mkdir()
    shim = Shim(context.directory, [root])
    shim.arm(Rule(("sync",), "fails", errno.EIO, skip=1))
    done = subprocess.run(
        [sys.executable, "-c", SELF_TEST, str(root)],
        env={**os.environ, **shim.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    check(done.returncode == 0, f"the program under the shim ended with {done.returncode}: {done.stderr}")
    shim.check_attached()
    check(shim.struck() == 1 and shim.struck_in_all("sync") == 1, "the rule did not strike once")
    check(shim.seen("write") >= 12 and shim.seen("sync") >= 12, "the shim did not see every call")
    loss = journal.lose_power(shim, random.Random(context.options.seed), journal.DROP)
    found = {path.name: path.read_bytes() for path in root.iterdir()}
    for name in sorted({*found, *AFTER_SELF_TEST}):
        check_equal(f"{name} after the power loss", found.get(name), AFTER_SELF_TEST.get(name))
    context.note(f"{loss.files_changed} files and {loss.names_undone} names undone")


def lying_disk(context: Context, entry: Entry, count: int) -> None:
    """A disk that says it synced and did not: what the other rows promise does not hold, and that is noticed."""
    trial = Trial(context, entry)
    trial.start()
    with trial.load(real_clients=False, commits=False):
        while entry.injected < count:
            trial.shim.arm(Rule(("sync",), f"{trial.topic}-", LIE, 0, FOREVER))
            trial.progress()
            trial.kill()
            with trial.paused():
                entry.injected += 1
                trial.lose_power(journal.DROP)
                trial.start()
                promised = [each.promised_ends() for each in trial.producers]
                try:
                    ends = trial.ends(OFFLINE_SECONDS)
                except Failed:
                    context.note("noticed: a partition is offline")
                    return
            missing = sum(max(0, end - ends[part]) for by_part in promised for part, end in by_part.items())
            if missing:
                entry.count("acknowledged records gone, as they must be", missing)
                context.note(f"noticed: {missing} acknowledged records are gone after {entry.injected} power losses")
                return
    raise Failed(f"{entry.injected} power losses on a disk that lies took nothing: the instrument does not bite")


def planted_verdicts(context: Context) -> None:
    """The judge itself: each kind of fault, planted into a good history, is found and named."""
    good = [("p0", partition, sequence) for sequence in range(20) for partition in range(PARTITIONS)]

    def verdict_on(change: Callable[[list[tuple[str, int, int]]], None], once: bool = True):  # type: ignore[no-untyped-def]
        history, ends = list(good), dict.fromkeys(range(PARTITIONS), 0)
        acks = [Ack(partition, sequence, sequence) for _, partition, sequence in history]
        change(history)
        dump = context.directory / "planted-dump"
        with open(dump, "w", encoding="ascii") as lines:
            for producer, partition, sequence in history:
                lines.write(f"{partition} {ends[partition]} {producer} {sequence} ...\n")
                ends[partition] += 1
        return judge([Told("p0", lambda: acks, [20] * PARTITIONS, once, complete=True)], dump)

    def swap(history: list[tuple[str, int, int]]) -> None:
        one, other = history.index(("p0", 2, 7)), history.index(("p0", 2, 8))
        history[one], history[other] = history[other], history[one]

    check(not verdict_on(lambda history: None).failed(), "a good history is found faulty")
    check(verdict_on(lambda history: history.remove(("p0", 3, 19))).lost, "a lost record is not found")
    check(verdict_on(lambda history: history.append(("p0", 3, 19))).duplicates, "a duplicate is not found")
    again = verdict_on(lambda history: history.append(("p0", 3, 19)), once=False)
    check(not again.failed(), f"a retry without idempotence is found faulty: {again}")
    check(verdict_on(swap).reordered, "a changed order is not found")
    check(verdict_on(lambda history: history.insert(0, ("p0", 1, 19))).moved, "moved offsets are not found")
    check(verdict_on(lambda history: history.append(("p9", 1, 0))).foreign, "a record nobody sent is not found")


def counts_are_current(_context: Context) -> None:
    """docs/durability.md says what results/ holds."""
    check(results.table_is_current(), "docs/durability.md is stale: compat/run --durability-table writes its counts")


ROWS = [
    row("kill-9", kill_9),
    row("power-loss", power_loss),
    row("failed-sync", fails_the_directory(a_failed_sync)),
    row("failed-sync-of-one-directory", failed_sync_of_one_directory),
    row("failed-write", fails_the_directory(a_failed_write)),
    row("failed-read", failed_read),
    row("no-space", no_space),
    row("full-file-system", full_file_system),
    row("slow-sync", slow_sync),
    row("clock-jumps", clock_jumps),
    row("page-cache-kill-9", page_cache_kill_9),
    row("page-cache-power-loss", page_cache_power_loss),
    row("lying-disk", lying_disk),
]

INSTRUMENTS = [
    Program("shim-self-test", shim_self_test),
    Program("planted-verdicts", planted_verdicts),
    Program("counts-are-current", counts_are_current),
]

ONLY_OTTLA = frozenset(program.name for program in ROWS)

SUITES = (
    Suite("faults", INSTRUMENTS, clients=(WIRE,), needs_broker=False),
    Suite("faults", ROWS, clients=("python",), own_brokers=True, only_ottla=ONLY_OTTLA),
)
