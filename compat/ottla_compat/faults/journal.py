"""What was not synced, from the shim's journal, and the power loss that takes it.

Every change of a file or a name is in the journal with what undoes it. A change is durable once a sync of its file, or
of its directory, began after it and succeeded. What a failed sync covered is lost for good: no later sync makes it
durable.
"""

import os
import random
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ..failure import check
from .shim import Shim, kept_of

_RECORD = struct.Struct("<IIQQQQqqqII")
WROTE, LENGTH_SET, SYNCED, SYNC_FAILED, MADE, RENAMED, REMOVED, DIRECTORY_SYNCED = range(1, 9)

PAGE = 4096
SECTOR = 512

# What a power loss leaves of what was not synced.
DROP, KEEP, ARBITRARY = "drop", "keep", "arbitrary"


@dataclass
class Record:
    """One change, or one sync, as the shim wrote it down."""

    raw: bytes
    kind: int
    sequence: int
    inode: int
    directory: int
    directory2: int
    a: int
    b: int
    c: int
    name: str
    name2: str
    data: bytes
    durable: bool = False
    # A sync that covered it has failed.
    lost: bool = False
    # Names: the directories whose sync is still to come.
    unsynced: set[int] = field(default_factory=set)

    def is_content(self) -> bool:
        return self.kind in (WROTE, LENGTH_SET)

    def is_name(self) -> bool:
        return self.kind in (MADE, RENAMED, REMOVED)


@dataclass
class Loss:
    """What a power loss had to choose from, and what it took."""

    files_at_risk: int = 0
    names_at_risk: int = 0
    names_undone: int = 0
    files_changed: int = 0
    bytes_dropped: int = 0

    def add(self, other: "Loss") -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def parse(journal: bytes) -> list[Record]:
    records = []
    position = 0
    while position < len(journal):
        size, kind, sequence, inode, directory, directory2, a, b, c, name_bytes, name2_bytes = _RECORD.unpack_from(
            journal, position
        )
        names = position + _RECORD.size
        name2 = names + name_bytes
        data = name2 + name2_bytes
        length = max(0, min(b, c - a)) if kind == WROTE else max(0, c - a) if kind == LENGTH_SET else 0
        record = Record(
            raw=journal[position : position + size],
            kind=kind,
            sequence=sequence,
            inode=inode,
            directory=directory,
            directory2=directory2,
            a=a,
            b=b,
            c=c,
            name=journal[names:name2].decode(),
            name2=journal[name2:data].decode(),
            data=journal[data : data + length],
        )
        if record.is_name():
            record.unsynced = {inode, directory2} if kind == RENAMED else {inode}
        records.append(record)
        position += size
    return records


def mark_durable(records: list[Record]) -> None:
    """Applies the syncs to the changes before them."""
    contents: dict[int, list[Record]] = {}
    names: list[Record] = []
    for record in records:
        if record.is_content():
            contents.setdefault(record.inode, []).append(record)
        elif record.is_name():
            names.append(record)
        elif record.kind == DIRECTORY_SYNCED:
            for change in names:
                if change.sequence <= record.a:
                    change.unsynced = set() if record.inode == 0 else change.unsynced - {record.inode}
                    change.durable = not change.unsynced
            names = [change for change in names if not change.durable]
        else:
            for inode in list(contents) if record.inode == 0 else [record.inode]:
                # By file: most changes of those that are never synced wait for as long as the run lasts.
                waiting = contents.pop(inode, [])
                for change in waiting:
                    if change.sequence <= record.a:
                        change.durable = record.kind == SYNCED
                        change.lost = record.kind == SYNC_FAILED
                if later := [change for change in waiting if change.sequence > record.a]:
                    contents[inode] = later


def settle(shim: Shim) -> None:
    """After a process died: what is durable needs no journal any more, what is not stays in the page cache."""
    records = parse(shim.journal())
    mark_durable(records)
    doubtful = {record.inode for record in records if record.is_content() and not record.durable}
    kept = [
        record
        for record in records
        if (record.is_content() and record.inode in doubtful)
        or (record.is_name() and not record.durable)
        or record.kind == SYNC_FAILED
        # Kept changes that are durable need the sync that made them so.
        or (record.kind == SYNCED and record.inode in doubtful | {0})
    ]
    shim.replace_journal(b"".join(record.raw for record in kept))
    _forget_removed(shim, {record.sequence for record in kept if record.is_name()})


def lose_power(shim: Shim, chance: random.Random, leave: str) -> Loss:
    """After a process died: the machine dies too, and comes back with what is durable and what `leave` says."""
    records = parse(shim.journal())
    mark_durable(records)
    loss = Loss()
    names = [record for record in records if record.is_name() and not record.durable]
    loss.names_at_risk = len(names)
    # Journalling file systems keep a prefix of the changes of names.
    keep = {DROP: 0, KEEP: len(names), ARBITRARY: chance.randint(0, len(names))}[leave]
    for record in reversed(names[keep:]):
        loss.names_undone += _undo_name(shim, record)

    by_inode: dict[int, list[Record]] = {}
    for record in records:
        if record.is_content():
            by_inode.setdefault(record.inode, []).append(record)
    paths = _files(shim)
    for inode, changes in sorted(by_inode.items()):
        if all(change.durable for change in changes):
            continue
        loss.files_at_risk += 1
        if inode in paths:
            dropped = _undo_content(paths[inode], changes, chance, leave)
            loss.files_changed += dropped > 0
            loss.bytes_dropped += dropped
    shim.replace_journal(b"")
    _forget_removed(shim, set())
    return loss


def _forget_removed(shim: Shim, needed: set[int]) -> None:
    for root in shim.roots:
        for path in kept_of(root).iterdir():
            if int(path.name) in needed:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _files(shim: Shim) -> dict[int, Path]:
    found = {}
    for root in shim.roots:
        for directory, _, names in os.walk(root):
            for name in names:
                path = Path(directory) / name
                found[path.lstat().st_ino] = path
    return found


def _directories(shim: Shim) -> dict[int, Path]:
    found = {}
    for root in shim.roots:
        found[root.parent.stat().st_ino] = root.parent
        for directory, _, _ in os.walk(root):
            found[Path(directory).stat().st_ino] = Path(directory)
    return found


def _undo_name(shim: Shim, record: Record) -> int:
    """1 if there was something to undo: the process may have died before it came to it."""
    directories = _directories(shim)
    directory = directories.get(record.inode)
    if directory is None:
        return 0
    path = directory / record.name
    if record.kind == MADE:
        if not os.path.lexists(path):
            return 0
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return 1
    kept = [kept_of(root) / str(record.sequence) for root in shim.roots]
    kept = [path for path in kept if os.path.lexists(path)]
    if record.kind == REMOVED:
        if not kept or os.path.lexists(path):
            return 0
        kept[0].rename(path)
        return 1
    target_directory = directories.get(record.directory2)
    if target_directory is None:
        return 0
    target = target_directory / record.name2
    if not os.path.lexists(target) or target.lstat().st_ino != record.directory:
        return 0
    target.rename(path)
    if record.a == 1 and kept:
        kept[0].rename(target)
    return 1


def _undo_content(path: Path, changes: list[Record], chance: random.Random, leave: str) -> int:
    """Gives the file a content that the power loss may have left; returns how many bytes are not as they were."""
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        durable_length = _durable_length(changes, size)
        pages = {number: _read_page(file.fileno(), number) for number in _pages_of(changes)}
        durable = {number: bytearray(page) for number, page in pages.items()}
        _undo_changes(durable, changes)
        if any(change.lost for change in changes):
            leave = DROP
        elif leave == ARBITRARY:
            # Files are hit or spared as a whole often enough that both must be common.
            leave = chance.choice((DROP, KEEP, ARBITRARY, ARBITRARY))
        if leave == KEEP:
            return 0
        length = durable_length if leave == DROP else _some_length(durable_length, size, chance)
        changed = abs(size - length)
        for number, page in sorted(pages.items()):
            left = durable[number] if leave == DROP else _survivor(page, durable[number], chance)
            end = min(PAGE, max(0, length - number * PAGE))
            changed += sum(one != other for one, other in zip(page[:end], left[:end], strict=True))
            if left != page and end > 0:
                os.pwrite(file.fileno(), bytes(left[:end]), number * PAGE)
        os.ftruncate(file.fileno(), length)
        return changed


def _read_page(descriptor: int, number: int) -> bytes:
    return os.pread(descriptor, PAGE, number * PAGE).ljust(PAGE, b"\0")


def _pages_of(changes: list[Record]) -> list[int]:
    touched: set[int] = set()
    for change in changes:
        if change.durable:
            continue
        end = change.a + change.b if change.kind == WROTE else max(change.a, change.c)
        touched.update(range(change.a // PAGE, -(-end // PAGE)))
    return sorted(touched)


def _durable_length(changes: list[Record], size: int) -> int:
    """The length after the last durable change; a change says how long the file was before it."""
    length = changes[0].c
    for index, change in enumerate(changes):
        if change.durable:
            length = changes[index + 1].c if index + 1 < len(changes) else size
    return length


def _undo_changes(pages: dict[int, bytearray], changes: list[Record]) -> None:
    later: list[tuple[int, int]] = []
    for change in reversed(changes):
        if change.durable:
            if change.kind == WROTE:
                later.append((change.a, change.a + change.b))
            continue
        end = change.a + change.b if change.kind == WROTE else change.c
        before = change.data.ljust(max(0, end - change.a), b"\0")
        for number in range(change.a // PAGE, -(-end // PAGE)):
            start = number * PAGE
            first, last = max(start, change.a), min(start + PAGE, end)
            undone = bytearray(before[first - change.a : last - change.a])
            for low, high in later:
                # What a later, durable write put there stays.
                low, high = max(low, first), min(high, last)
                if low < high:
                    undone[low - first : high - first] = pages[number][low - start : high - start]
            pages[number][first - start : last - start] = undone


def _some_length(one: int, other: int, chance: random.Random) -> int:
    shortest, longest = min(one, other), max(one, other)
    border = (shortest // PAGE + chance.randint(0, (longest - shortest) // PAGE + 1)) * PAGE
    return chance.choice((one, other, min(max(border, shortest), longest)))


def _survivor(page: bytes, durable: bytearray, chance: random.Random) -> bytes:
    """The page as it was seen, as it was durable, or one torn into the other."""
    kind = chance.randrange(3)
    if kind < 2:
        return page if kind == 0 else bytes(durable)
    torn = bytearray(page)
    for start in range(0, PAGE, SECTOR):
        if chance.random() < 0.5:
            torn[start : start + SECTOR] = durable[start : start + SECTOR]
    return bytes(torn)


def check_known(shim: Shim, files: list[Path]) -> None:
    """The journal has heard of each of these files: the shim sees how the process writes."""
    known = {record.inode for record in parse(shim.journal()) if record.kind == WROTE}
    unknown = [str(path) for path in files if path.stat().st_ino not in known]
    check(not unknown, f"the shim saw no write to {unknown}")
