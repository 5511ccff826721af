"""Waiting by condition, always with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

from .failure import Failed

Value = TypeVar("Value")

POLL_INTERVAL_S = 0.02


class Deadline:
    """A moment after which waiting is a failure."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def passed(self) -> bool:
        return time.monotonic() >= self._end

    def __str__(self) -> str:
        return f"{self._seconds:g} s"


def wait_until(
    what: str,
    condition: Callable[[], Value | None],
    seconds: float,
    seen: Callable[[], object] = lambda: "",
    interval_s: float = POLL_INTERVAL_S,
) -> Value:
    """Returns the first truthy value of `condition`; fails with `what` and `seen()` at the deadline."""
    deadline = Deadline(seconds)
    while True:
        value = condition()
        if value:
            return value
        if deadline.passed():
            raise Failed(f"waited {deadline} for {what}; last seen: {seen()}")
        time.sleep(interval_s)
