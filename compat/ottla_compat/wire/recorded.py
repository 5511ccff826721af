"""Apache Kafka's answers, committed, and the list of answers that are meant to differ, each with its reason."""

import json
from typing import Any

from ..failure import CannotRun
from ..paths import RECORDED

ANSWERS = RECORDED / "errors-kafka-4.4.0.json"
DIFFERENCES = RECORDED / "errors-differences.json"


def answers() -> dict[str, Any]:
    return _load(ANSWERS)


def expected(name: str, recorded: dict[str, Any]) -> Any:
    """What Ottla is to answer: what Kafka answered, or what the committed difference says."""
    differences = _load(DIFFERENCES)
    if name in differences:
        if not differences[name].get("reason"):
            raise CannotRun(f"{DIFFERENCES.name} gives no reason for {name}")
        return differences[name]["answer"]
    if name not in recorded:
        raise CannotRun(f"{ANSWERS.name} has no {name}: record it with --broker kafka --suite errors --record")
    return recorded[name]


def record(name: str, answer: Any) -> None:
    known = _load(ANSWERS)
    known[name] = answer
    RECORDED.mkdir(exist_ok=True)
    text = (
        "{\n"
        + ",\n".join(f"{json.dumps(key)}: {json.dumps(known[key], sort_keys=True)}" for key in sorted(known))
        + "\n}\n"
    )
    ANSWERS.write_text(text, encoding="utf-8")


def _load(path: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
