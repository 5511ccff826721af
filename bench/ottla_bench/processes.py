"""Child processes: tied to this one's life, and what the kernel says of them."""

import ctypes
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from .failure import BrokerLost, CellFailed

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the child when this process ends, however it does."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_to_end(command: list[str], seconds: float) -> str:
    """The standard output of a command that succeeds within a time."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CellFailed(f"{Path(command[0]).name} was not done within {seconds:g} s") from None
            raise
    if process.returncode != 0:
        raise CellFailed(f"{Path(command[0]).name} ended with {process.returncode}: {(output + errors)[-600:]}")
    return output


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its threads that ended, to the nanosecond (its CPU clock, clock_getcpuclockid)."""
    try:
        return time.clock_gettime(((~pid) << 3) | 2)
    except OSError:
        raise BrokerLost(f"process {pid} is gone") from None


def resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
    except (OSError, AttributeError):
        raise BrokerLost(f"process {pid} is gone") from None


def tree_bytes(directory: Path) -> int:
    """Bytes that a directory takes on disk; files that go meanwhile are not counted."""
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.stat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
