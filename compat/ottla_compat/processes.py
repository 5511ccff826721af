"""The processes a run starts: none outlives it, however it ends."""

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from .failure import CannotRun

# The kernel ties a child to the thread that made it, and those of scenarios end before the brokers they start.
_maker = ThreadPoolExecutor(1, thread_name_prefix="maker of processes")
_made: list[subprocess.Popen[Any]] = []
_ended = False


def start(command: Sequence[str], own_session: bool = True, **options: Any) -> subprocess.Popen[Any]:
    """A process that the kernel kills when this one is gone, also by SIGKILL. With a session of its own, Ctrl-C at the
    terminal reaches the runner alone, which then ends the rest."""
    tied = ["setpriv", "--pdeathsig", "KILL", *command]
    return _maker.submit(_start, tied, {"start_new_session": own_session, **options}).result()


def _start(command: Sequence[str], options: dict[str, Any]) -> subprocess.Popen[Any]:
    if _ended:
        raise CannotRun("the run was interrupted")
    process = subprocess.Popen(command, **options)
    _made.append(process)
    return process


def kill(process: subprocess.Popen[Any]) -> None:
    """kill -9 of a process with a session of its own, and of what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all() -> None:
    """Kills all that still run, and starts no more."""
    global _ended
    _ended = True
    for process in _made:
        if process.poll() is None:
            kill(process)
