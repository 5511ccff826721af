"""docs/error-codes.md: each wrong request with Apache Kafka's code and Ottla's, as the suite `errors` saw them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka.errors import for_code

from ..failure import CannotRun
from ..paths import REPOSITORY
from . import recorded
from .case import Case

PATH = REPOSITORY / "docs" / "error-codes.md"

HEAD = """\
# Error codes beside Apache Kafka's

Every request below was sent to Apache Kafka 4.4.0 (its answers are committed in `compat/recorded`) and to Ottla, as bytes
that Apache's own classes encoded. A cell holds the error codes in the answer to the case's last request, in their order
and each once; NONE where everything was well. More than codes is compared: the answers, without texts, timings,
addresses and made-up identifiers, and of lists of all there is only what the case made itself. A case that compares less of
an answer says so by a `view`.

Written by `compat/run --suite errors --client wire --error-table`. Cases are in `compat/ottla_compat/wire`; answers that
are meant to differ are in `compat/recorded/errors-differences.json`.

"""


def write(cases: Sequence[Case], answers: Mapping[str, Any]) -> str:
    """Writes the document; returns a line about it."""
    known = recorded.ERRORS.answers()
    differences = recorded.ERRORS.differences()
    missing = [case.name for case in cases if case.name not in answers or case.name not in known]
    if missing:
        raise CannotRun(f"no table without all of its cases: {len(missing)} are missing, {missing[0]} is the first")
    rows = sorted(
        (
            case.requests[-1].api,
            case.name,
            codes(known[case.name]),
            codes(answers[case.name]),
            differences.get(case.name, {}).get("reason", ""),
        )
        for case in cases
    )
    refused = sum(row[2] != "NONE" for row in rows)
    same = sum(row[2] == row[3] for row in rows)
    summary = f"{len(rows)} cases, {refused} of them refused by Apache Kafka; the codes are the same in {same}."
    lines = ["| API | case | Apache Kafka 4.4.0 | Ottla | the difference |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(each.replace('|', '/') for each in row)} |" for row in rows]
    PATH.write_text(HEAD + summary + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return f"{summary} Written to {PATH.relative_to(REPOSITORY)}."


def codes(answer: Any) -> str:
    last = answer[-1] if isinstance(answer, list) and answer else answer
    if isinstance(last, dict) and last.get("closed"):
        return "(connection closed)"
    if isinstance(last, dict) and last.get("silent"):
        return "(no answer)"
    found = dict.fromkeys(code for code in error_codes(last))
    named = [name(code) for code in found if code != 0]
    return ", ".join(named) or "NONE"


# Where kafka-python, whose list of codes this is, has an older name or none.
KAFKA_NAMES = {
    -1: "UNKNOWN_SERVER_ERROR",
    6: "NOT_LEADER_OR_FOLLOWER",
    10: "MESSAGE_TOO_LARGE",
    17: "INVALID_TOPIC_EXCEPTION",
    39: "INVALID_REPLICA_ASSIGNMENT",
}


def name(code: int) -> str:
    if code in KAFKA_NAMES:
        return KAFKA_NAMES[code]
    found = getattr(for_code(code), "message", None)
    return str(code) if found in (None, "UNKNOWN") else str(found)


def error_codes(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "errorCode" and isinstance(each, int):
                yield each
            else:
                yield from error_codes(each)
    elif isinstance(value, list):
        for each in value:
            yield from error_codes(each)
