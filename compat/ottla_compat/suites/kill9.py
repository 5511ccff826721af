"""kill -9 at random times under idempotent load: nothing acknowledged lost, nothing twice, order kept."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..failure import Failed, check, shorten
from ..scenario import WIRE, Context, Program, Suite
from ..waiting import wait_until

PARTITIONS = 6
# Their batches meet in the same partitions.
PRODUCERS = 2
RECORDS_PER_S = 1500
VALUE_BYTES = 80
SHORTEST_LIFE_S = 0.05
LONGEST_LIFE_S = 1.0
RESUME_SECONDS = 60.0


@dataclass
class Verdict:
    """What the log says against what was acknowledged."""

    acked: int = 0
    read: int = 0
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def failed(self) -> bool:
        return bool(self.lost or self.moved or self.duplicates or self.reordered or self.foreign)

    def __str__(self) -> str:
        return (
            f"{self.acked} acknowledged, {self.read} read, {len(self.lost)} lost, {len(self.moved)} at other offsets, "
            f"{len(self.duplicates)} duplicates, {len(self.reordered)} reordered, {len(self.foreign)} never sent"
        )

    def examples(self) -> str:
        kinds = ("lost", "moved", "duplicates", "reordered", "foreign")
        return "; ".join(f"{kind}: {shorten(getattr(self, kind)[:5])}" for kind in kinds if getattr(self, kind))


def judge(acks: dict[str, Path], dumps: Path, sent: dict[str, int]) -> Verdict:
    """`acks`: per producer, lines `partition sequence offset`; `dumps`: lines `partition offset producer sequence …`."""
    verdict = Verdict()
    offsets: dict[tuple[str, int, int], int] = {}
    seen: Counter[tuple[str, int, int]] = Counter()
    last: dict[tuple[str, int], int] = {}
    end: dict[int, int] = {}
    with open(dumps, encoding="ascii") as lines:
        for line in lines:
            partition_text, offset_text, producer, sequence_text, _ = line.split(" ", 4)
            partition, offset, sequence = int(partition_text), int(offset_text), int(sequence_text)
            verdict.read += 1
            record = (producer, partition, sequence)
            if offset != end.get(partition, 0):
                verdict.foreign.append(f"a gap before offset {offset} of partition {partition}")
            end[partition] = offset + 1
            seen[record] += 1
            if seen[record] > 1:
                verdict.duplicates.append(f"{record} at {offsets[record]} and {offset}")
                continue
            offsets[record] = offset
            if producer not in acks or sequence * PARTITIONS > sent[producer]:
                verdict.foreign.append(str(record))
            if sequence != last.get((producer, partition), -1) + 1:
                verdict.reordered.append(f"{record} after {last.get((producer, partition), -1)}")
            last[producer, partition] = sequence
    for producer, path in acks.items():
        with open(path, encoding="ascii") as lines:
            for line in lines:
                partition, sequence, offset = map(int, line.split())
                verdict.acked += 1
                found = offsets.get((producer, partition, sequence))
                if found is None:
                    verdict.lost.append(f"{producer} {sequence} of partition {partition}, acknowledged at {offset}")
                elif offset >= 0 and found != offset:
                    verdict.moved.append(f"{producer} {sequence} of partition {partition}: {offset}, found at {found}")
    return verdict


def kills(context: Context) -> None:
    chance = random.Random(context.options.seed)
    broker = context.broker
    broker.start()
    topic = context.create_topic("t", PARTITIONS)
    driver = context.driver()
    acks = {f"{context.client}{number}": context.directory / f"acks-{number}" for number in range(PRODUCERS)}
    for name, path in acks.items():
        driver.call(
            "load_start",
            id=name,
            topic=topic,
            partitions=PARTITIONS,
            ack_path=str(path),
            records_per_s=RECORDS_PER_S,
            size=VALUE_BYTES,
        )
    killed = 0
    starts = []
    while killed < context.options.kills:
        await_progress(context, acks)
        # The load goes on for a random while: this is a time of life, not a wait for something.
        time.sleep(chance.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
        broker.kill()
        killed += 1
        starts.append(broker.start())
    await_progress(context, acks)
    sent = {}
    for name in acks:
        stopped = driver.call("load_stop", wait_s=330, id=name)
        check(not stopped["failures"] and not stopped["left"], f"{name} could not deliver: {shorten(stopped)}")
        check(stopped["acked"] == stopped["sent"], f"{name}: {shorten(stopped)}")
        sent[name] = stopped["sent"]
    dump = context.directory / "dump"
    driver.call("dump", wait_s=300, topic=topic, partitions=PARTITIONS, path=str(dump))
    verdict = judge(acks, dump, sent)
    context.note(f"{killed} kills, {verdict}; slowest start {max(starts):.2f} s")
    if verdict.failed():
        raise Failed(f"after {killed} kills: {verdict}: {verdict.examples()}")
    check(verdict.acked > 100 * killed, f"too little load to mean anything: {verdict}")


def await_progress(context: Context, acks: dict[str, Path]) -> None:
    """Every producer gets acknowledgements again: the broker serves."""
    driver = context.driver()
    states: dict[str, Any] = {name: driver.call("load_state", id=name) for name in acks}

    def further() -> bool:
        for name in acks:
            now = driver.call("load_state", id=name)
            if now["failures"]:
                raise Failed(f"{name}: {shorten(now)}")
            if now["acked"] <= states[name]["acked"]:
                return False
        return True

    wait_until("every producer to get acknowledgements", further, RESUME_SECONDS, lambda: shorten(states))


def planted(context: Context) -> None:
    """The judge itself: each kind of fault, planted into a good history, is found and named."""
    good = [("p0", partition, sequence) for sequence in range(20) for partition in range(PARTITIONS)]

    def verdict_on(change: Callable[[list[tuple[str, int, int]]], None]) -> Verdict:
        acks, dump = context.directory / "planted-acks", context.directory / "planted-dump"
        history = list(good)
        acks.write_text("".join(f"{partition} {sequence} {sequence}\n" for _, partition, sequence in history))
        change(history)
        ends: Counter[int] = Counter()
        with open(dump, "w", encoding="ascii") as lines:
            for producer, partition, sequence in history:
                lines.write(f"{partition} {ends[partition]} {producer} {sequence} ...\n")
                ends[partition] += 1
        return judge({"p0": acks}, dump, {"p0": len(good)})

    def swap(history: list[tuple[str, int, int]]) -> None:
        one, other = history.index(("p0", 2, 7)), history.index(("p0", 2, 8))
        history[one], history[other] = history[other], history[one]

    check(not verdict_on(lambda history: None).failed(), "a good history is found faulty")
    check(verdict_on(lambda history: history.remove(("p0", 3, 19))).lost, "a lost record is not found")
    check(verdict_on(lambda history: history.append(("p0", 3, 19))).duplicates, "a duplicate is not found")
    check(verdict_on(swap).reordered, "a changed order is not found")
    check(verdict_on(lambda history: history.insert(0, ("p0", 1, 400))).moved, "moved offsets are not found")
    check(verdict_on(lambda history: history.append(("p9", 1, 0))).foreign, "a record nobody sent is not found")


SUITES = (
    Suite("kill9", [Program("planted-faults", planted)], clients=(WIRE,), needs_broker=False),
    Suite("kill9", [Program("kills", kills, frozenset({"load"}))], clients=("python", "java"), own_brokers=True),
)
