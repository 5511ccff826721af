"""The runner's end of the fault shim (faults/shim.c): a mapped file of counters and rules, and the journal beside it."""

import errno
import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import install
from ..failure import Failed, check

# As in the shim, in its order.
OPERATIONS = (
    "open",
    "read",
    "write",
    "set-length",
    "sync",
    "sync-directory",
    "rename",
    "remove",
    "make-directory",
    "clock",
)

MAGIC = b"OTLSHIM1"
# A sync that does nothing and says it did.
LIE = -1
FOREVER = (1 << 63) - 1

_ATTACHED, _JOURNAL_ON, _SEQUENCE, _JOURNAL_END, _CAPACITY = 8, 12, 16, 24, 32
_CLOCK_OFFSET, _CLOCK_MOVED, _UNSUPPORTED, _SEEN, _STRUCK = 40, 48, 56, 64, 192
_ROOTS, _ROOT_BYTES, _ROOT_COUNT = 320, 256, 4
_RULES, _RULE_COUNT = _ROOTS + _ROOT_BYTES * _ROOT_COUNT, 8
_RULE = struct.Struct("<IIiIQQQQII200s")
_SIZE = _RULES + _RULE.size * _RULE_COUNT

# Mapped, not written: it costs what is used of it.
JOURNAL_CAPACITY = 4 << 30


@dataclass(frozen=True)
class Rule:
    """Which calls fail, and how: those of these operations on paths with this part, after `skip`, `count` of them."""

    operations: tuple[str, ...]
    path: str
    error: int
    skip: int = 0
    count: int = 1
    delay_ms: int = 0
    # A failing write moves half of its bytes first.
    partial: bool = False

    def encode(self) -> bytes:
        path = self.path.encode()
        assert len(path) < 200, f"{self.path} is too long for a rule"
        operations = sum(1 << OPERATIONS.index(operation) for operation in self.operations)
        numbers = (operations, self.error, self.delay_ms, self.skip, self.count, 0, 0, int(self.partial), 0)
        return _RULE.pack(0, *numbers, path)

    def __str__(self) -> str:
        kind = {0: "slow", LIE: "lying"}.get(self.error) or errno.errorcode[self.error]
        return f"{kind} {'/'.join(self.operations)}"


class Shim:
    """Files under `roots` as the shim shows them to the processes started with `environment()`."""

    def __init__(self, directory: Path, roots: Iterable[Path], journal: bool = True):
        self.roots = list(roots)
        self.has_journal = journal
        assert len(self.roots) <= _ROOT_COUNT
        self._library = install.fault_shim()
        self._control_path = directory / "shim-control"
        self.journal_path = directory / "shim-journal"
        self._control_path.write_bytes(bytes(_SIZE))
        with open(self._control_path, "r+b") as file:
            self._control = mmap.mmap(file.fileno(), _SIZE)
        self._control[0:8] = MAGIC
        self._put("<I", _JOURNAL_ON, int(journal))
        self._put("<Q", _CAPACITY, JOURNAL_CAPACITY)
        for index, root in enumerate(self.roots):
            encoded = str(root).encode()
            assert len(encoded) < _ROOT_BYTES, f"{root} is too long a path"
            self._put(f"{_ROOT_BYTES}s", _ROOTS + index * _ROOT_BYTES, encoded)
            if journal:
                kept_of(root).mkdir(parents=True)
        with open(self.journal_path, "wb") as file:
            file.truncate(JOURNAL_CAPACITY)
        self._attached = 0

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "OTTLA_FAULTS_CONTROL": str(self._control_path),
            "OTTLA_FAULTS_JOURNAL": str(self.journal_path),
        }

    def arm(self, rule: Rule, slot: int = 0) -> None:
        at = _RULES + slot * _RULE.size
        self._control[at : at + _RULE.size] = rule.encode()
        self._put("<I", at, 1)

    def disarm(self, slot: int | None = None) -> None:
        for each in range(_RULE_COUNT) if slot is None else [slot]:
            self._put("<I", _RULES + each * _RULE.size, 0)

    def struck(self, slot: int = 0) -> int:
        """How many calls the rule has struck since it was armed."""
        return int(_RULE.unpack_from(self._control, _RULES + slot * _RULE.size)[7])

    def seen(self, operation: str) -> int:
        return self._counter(_SEEN, operation)

    def struck_in_all(self, operation: str) -> int:
        return self._counter(_STRUCK, operation)

    def set_clock_offset(self, seconds: float) -> None:
        self._put("<q", _CLOCK_OFFSET, int(seconds * 1e9))

    def clock_readings_moved(self) -> int:
        return self._take("<Q", _CLOCK_MOVED)

    def journal(self) -> bytes:
        with open(self.journal_path, "rb") as file:
            return file.read(self._take("<Q", _JOURNAL_END))

    def replace_journal(self, records: bytes) -> None:
        """Only while no process has the shim."""
        with open(self.journal_path, "r+b") as file:
            file.write(records)
        self._put("<Q", _JOURNAL_END, len(records))

    def check_attached(self) -> None:
        """Another process has the shim since the last time this was asked."""
        attached = self._take("<I", _ATTACHED)
        check(attached > self._attached, "the fault shim is not in the broker's process: nothing would be shown")
        self._attached = attached

    def check_active(self) -> None:
        """The shim sees what the process does, or the run is worth nothing."""
        silent = [name for name in ("open", "write", "sync", "sync-directory", "clock") if not self.seen(name)]
        if silent:
            raise Failed(f"the fault shim saw no call of {', '.join(silent)}: nothing would be shown")
        unsupported = self._take("<Q", _UNSUPPORTED)
        check(unsupported == 0, f"{unsupported} calls changed files in ways the shim cannot undo")

    def _counter(self, base: int, operation: str) -> int:
        return self._take("<Q", base + 8 * OPERATIONS.index(operation))

    def _take(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(kind, self._control, at)[0])

    def _put(self, kind: str, at: int, value: int | bytes) -> None:
        struct.pack_into(kind, self._control, at, value)


def kept_of(root: Path) -> Path:
    """Where the shim keeps what was removed below the root and is not yet removed durably."""
    return root.with_name(f"{root.name}.removed")
