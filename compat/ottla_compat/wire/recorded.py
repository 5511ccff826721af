"""Apache Kafka's answers, committed, and the lists of answers that are meant to differ, each with its reason."""

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failure import CannotRun, Failed, difference
from ..paths import RECORDED
from ..scenario import Context

_writing = threading.Lock()


@dataclass(frozen=True)
class Recording:
    """The answers of one suite."""

    suite: str

    @property
    def answers_path(self) -> Path:
        return RECORDED / f"{self.suite}-kafka-4.4.0.json"

    @property
    def differences_path(self) -> Path:
        return RECORDED / f"{self.suite}-differences.json"

    def answers(self) -> dict[str, Any]:
        return _load(self.answers_path)

    def differences(self) -> dict[str, Any]:
        return _load(self.differences_path)

    def expected(self, name: str) -> Any:
        """What Ottla is to answer: what Kafka answered, or what the committed difference says."""
        meant = self.differences()
        if name in meant:
            if not meant[name].get("reason"):
                raise CannotRun(f"{self.differences_path.name} gives no reason for {name}")
            return meant[name]["answer"]
        known = self.answers()
        if name not in known:
            raise CannotRun(
                f"{self.answers_path.name} has no {name}: record it with --broker kafka --suite {self.suite} --record"
            )
        return known[name]

    def record(self, name: str, answer: Any) -> None:
        with _writing:
            known = self.answers()
            known[name] = answer
            RECORDED.mkdir(exist_ok=True)
            lines = (f"{json.dumps(key)}: {json.dumps(known[key], sort_keys=True)}" for key in sorted(known))
            self.answers_path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


ERRORS = Recording("errors")
ADMIN = Recording("admin")
CONFIGS = Recording("configs")


def check(
    recording: Recording, context: Context, name: str, answer: Any, meant: Callable[[Any], Any] | None = None
) -> None:
    """Compares with what is recorded, `meant` applied to it; or records."""
    if context.options.record:
        recording.record(name, answer)
        return
    is_kafka = context.factory is not None and context.factory.name == "kafka"
    expected = recording.answers().get(name) if is_kafka else recording.expected(name)
    if meant is not None and not is_kafka:
        expected = meant(expected)
    if answer != expected:
        raise Failed("\n".join(["the answer is another:", *itertools.islice(difference(expected, answer), 10)]))


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
