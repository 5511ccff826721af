"""What the log holds against what clients were told."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..failure import shorten
from .raw_client import Ack


@dataclass(frozen=True)
class Told:
    """What one producer sent and heard. `once`: no record of it may be there twice, and they are in order."""

    name: str
    acks: Callable[[], Iterable[Ack]]
    # By partition, how many records were sent.
    sent: list[int]
    once: bool
    # Everything sent was acknowledged in the end.
    complete: bool = False


@dataclass
class Verdict:
    acked: int = 0
    read: int = 0
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    KINDS = ("lost", "moved", "duplicates", "reordered", "foreign")

    def failed(self) -> bool:
        return any(getattr(self, kind) for kind in self.KINDS)

    def __str__(self) -> str:
        return (
            f"{self.acked} acknowledged, {self.read} read, {len(self.lost)} lost, {len(self.moved)} at other offsets, "
            f"{len(self.duplicates)} duplicates, {len(self.reordered)} reordered, {len(self.foreign)} never sent"
        )

    def examples(self) -> str:
        return "; ".join(f"{kind}: {shorten(getattr(self, kind)[:5])}" for kind in self.KINDS if getattr(self, kind))


def judge(told: Iterable[Told], dump: Path) -> Verdict:
    """`dump` has lines `partition offset producer sequence …`, from the beginning of every partition."""
    told = list(told)
    by_name = {each.name: each for each in told}
    verdict = Verdict()
    at: dict[tuple[int, int], tuple[str, int]] = {}
    seen: Counter[tuple[str, int, int]] = Counter()
    last: dict[tuple[str, int], int] = {}
    end: dict[int, int] = {}
    with open(dump, encoding="ascii", errors="replace") as lines:
        for line in lines:
            partition_text, offset_text, producer, sequence_text, _ = line.split(" ", 4)
            partition, offset, sequence = int(partition_text), int(offset_text), int(sequence_text)
            verdict.read += 1
            if offset != end.get(partition, 0):
                verdict.foreign.append(f"a gap before offset {offset} of partition {partition}")
            end[partition] = offset + 1
            at[partition, offset] = (producer, sequence)
            record = (producer, partition, sequence)
            seen[record] += 1
            source = by_name.get(producer)
            if source is None or sequence >= source.sent[partition]:
                verdict.foreign.append(f"{record} at {offset}")
            elif source.once:
                if seen[record] > 1:
                    verdict.duplicates.append(f"{record} at {offset}")
                elif sequence <= last.get((producer, partition), -1):
                    verdict.reordered.append(f"{record} after {last[producer, partition]}")
                last[producer, partition] = max(sequence, last.get((producer, partition), -1))
    for source in told:
        for ack in source.acks():
            verdict.acked += 1
            there = at.get((ack.partition, ack.offset))
            if ack.offset >= 0 and there == (source.name, ack.sequence):
                continue
            what = f"{source.name} {ack.sequence} of partition {ack.partition}, acknowledged at {ack.offset}"
            if not seen[source.name, ack.partition, ack.sequence]:
                verdict.lost.append(what)
            elif ack.offset >= 0:
                verdict.moved.append(f"{what}, where {there} is")
        if source.complete:
            for partition, count in enumerate(source.sent):
                found = sum(1 for sequence in range(count) if seen[source.name, partition, sequence])
                if found != count:
                    verdict.lost.append(f"{source.name}: {count - found} of {count} records of partition {partition}")
    return verdict


def acks_of_file(path: Path) -> Iterable[Ack]:
    """Lines `partition sequence offset`, as drivers write them."""
    with open(path, encoding="ascii") as lines:
        for line in lines:
            yield Ack(*map(int, line.split()))
