"""Waiting by condition, always with a deadline."""

import time
from collections.abc import Callable

from .failure import CellFailed


def wait_until(what: str, condition: Callable[[], bool], seconds: float, interval_s: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise CellFailed(f"waited {seconds:g} s for {what}")
        time.sleep(interval_s)
