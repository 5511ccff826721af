"""The ways a scenario fails."""

import itertools
from collections.abc import Iterator
from typing import Any

ABSENT = "(absent)"


class Failed(Exception):
    """What was observed is not what the scenario expects."""


class ClientError(Failed):
    """The client under test reported an error. `name` is Kafka's name of the error, or the client's own."""

    def __init__(self, name: str, message: str, op: str):
        super().__init__(f"{op}: {name}: {message}")
        self.name = name
        self.message = message


class CannotRun(Exception):
    """The run itself is not possible: something is missing or was asked for wrongly."""


def check(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


def check_equal(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise Failed(f"{what}: expected {shorten(expected)}, got {shorten(actual)}")


def difference(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Each place where two JSON values differ."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            yield from difference(expected.get(key, ABSENT), actual.get(key, ABSENT), f"{path}/{key}")
    elif isinstance(expected, list) and isinstance(actual, list):
        for index, (one, other) in enumerate(itertools.zip_longest(expected, actual, fillvalue=ABSENT)):
            yield from difference(one, other, f"{path}/{index}")
    elif expected != actual:
        yield f"{path}: expected {shorten(expected, 200)}, got {shorten(actual, 200)}"


def shorten(value: object, limit: int = 600) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
