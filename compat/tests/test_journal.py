"""What the fault shim's journal says is durable, against the rule itself."""

import random
import unittest

from ottla_compat.faults import journal
from ottla_compat.faults.journal import Record

FILES, DIRECTORIES = (11, 12, 13), (21, 22)


def some_record(chance: random.Random, sequence: int) -> Record:
    kind = chance.choice(
        (journal.WROTE, journal.WROTE, journal.LENGTH_SET, journal.MADE, journal.RENAMED, journal.SYNCED,
         journal.SYNCED, journal.SYNC_FAILED, journal.DIRECTORY_SYNCED)
    )
    is_name = kind in (journal.MADE, journal.RENAMED)
    directories = is_name or kind == journal.DIRECTORY_SYNCED
    inode = chance.choice(DIRECTORIES if directories else FILES)
    if not is_name and kind not in (journal.WROTE, journal.LENGTH_SET) and chance.random() < 0.1:
        inode = 0
    other = chance.choice(DIRECTORIES) if kind == journal.RENAMED else 0
    # A sync covers what was there when it began, which may be some changes ago.
    began = sequence - chance.randrange(0, 4)
    record = Record(b"", kind, sequence, inode, 0, other, began, 0, 0, "", "", b"")
    if is_name:
        record.unsynced = {inode, other} if kind == journal.RENAMED else {inode}
    return record


def first_sync(records: list[Record], index: int) -> int | None:
    """The kind of the first sync, failed or not, that covers the change of a file."""
    change = records[index]
    for sync in records[index + 1 :]:
        if sync.kind in (journal.SYNCED, journal.SYNC_FAILED):
            if sync.inode in (0, change.inode) and sync.a >= change.sequence:
                return sync.kind
    return None


def synced_directories(records: list[Record], index: int) -> set[int]:
    change = records[index]
    syncs = (each for each in records[index + 1 :] if each.kind == journal.DIRECTORY_SYNCED)
    covering = {each.inode for each in syncs if each.a >= change.sequence}
    return set(DIRECTORIES) if 0 in covering else covering


class Durable(unittest.TestCase):
    def test_what_a_sync_covered_and_nothing_else(self) -> None:
        seen = {True: 0, False: 0}
        for seed in range(300):
            chance = random.Random(seed)
            records = [some_record(chance, sequence) for sequence in range(1, 60)]
            wanted = [set(record.unsynced) for record in records]
            journal.mark_durable(records)
            for index, record in enumerate(records):
                if record.is_content():
                    kind = first_sync(records, index)
                    expected = (kind == journal.SYNCED, kind == journal.SYNC_FAILED)
                    self.assertEqual((record.durable, record.lost), expected, f"seed {seed}, change {index}")
                elif record.is_name():
                    expected_name = wanted[index] <= synced_directories(records, index)
                    self.assertEqual(record.durable, expected_name, f"seed {seed}, name {index}")
                else:
                    continue
                seen[record.durable] += 1
        self.assertGreater(min(seen.values()), 1000)
