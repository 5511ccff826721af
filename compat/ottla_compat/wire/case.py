"""A case: requests in JSON, with names that are filled in, and answers with everything accidental taken out."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..driver import Driver
from .batch import Batch, base64_of

ANSWER_SECONDS = 15.0
ZERO_UUID = "AAAAAAAAAAAAAAAAAAAAAA"
UNKNOWN_UUID = "c2VsZG9tLXNlZW4taWQtMQ"

# Free text, timings and addresses differ from broker to broker and from run to run.
LEFT_OUT = frozenset(
    {
        "throttleTimeMs",
        "errorMessage",
        "batchIndexErrorMessage",
        "logAppendTimeMs",
        "host",
        "port",
        "clusterId",
        "documentation",
    }
)


# Identifiers a broker makes up: whether there is one is compared.
MADE_UP: Mapping[str, Callable[[Any], Any]] = {
    "memberId": lambda each: "some" if each else each,
    "leader": lambda each: "some" if each not in ("", -1) else each,
    "topicId": lambda each: each if each in (ZERO_UUID, UNKNOWN_UUID) else "some",
    "producerId": lambda each: "some" if each >= 0 else each,
}


@dataclass(frozen=True)
class Records:
    """Stands for a batch; built when sent, since its timestamps are of now."""

    batches: tuple[Batch | bytes, ...]

    def fill(self, names: Mapping[str, Any]) -> str:
        filled = []
        for each in self.batches:
            if isinstance(each, Batch) and each.producer_id == PRODUCER_ID:
                each = each.but(producer_id=names["$producer_id"])
            filled.append(each)
        return base64_of(*filled)


# In a Batch: the id that InitProducerId gave earlier in the case.
PRODUCER_ID = 1 << 62


@dataclass(frozen=True)
class Request:
    api: str
    version: int
    body: Mapping[str, Any]
    # Written into the header instead of the version the body is encoded in, which the answer is then read in.
    header_version_as: int | None = None
    answer_version: int | None = None
    patch: Sequence[tuple[int, str]] = ()
    truncate: int = 0
    append: str = ""
    no_answer: bool = False
    # Name -> path into the answer's body, for later requests.
    capture: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    # Looks at the answer itself; what it returns is compared instead of the body.
    view: Callable[[Any], Any] | None = None
    # Of such lists in the body only what the case named itself is compared: list -> the name's field.
    only_own: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, names: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {"api": self.api, "version": self.version, "body": fill(self.body, names)}
        for name in ("header_version_as", "answer_version"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        if self.patch:
            fields["patch"] = [list(each) for each in self.patch]
        if self.truncate:
            fields["truncate"] = self.truncate
        if self.append:
            fields["append"] = self.append
        if self.no_answer:
            fields["no_answer"] = True
        return fields


@dataclass(frozen=True)
class Case:
    """Requests in order, all on one connection."""

    name: str
    requests: Sequence[Request]
    # From Apache Kafka's recorded answers to those expected here, where that is a matter of more than the case.
    expected: Callable[[Any], Any] | None = None

    def run(self, driver: Driver, host: str, port: int, names: Mapping[str, Any]) -> list[Any]:
        """The answers, normalised."""
        known = dict(names)
        answers: list[Any] = []
        for group in self._exchanges():
            sent = [request.to_json(known) for request in group]
            got = driver.call("wire", host=host, port=port, timeout_s=ANSWER_SECONDS, requests=sent)
            for request, answer in zip(group, got, strict=True):
                for name, path in request.capture.items():
                    known[name] = dig(answer.get("body"), path)
                if request.view is not None and "body" in answer:
                    answer = {"body": request.view(answer["body"])}
                answer = normalise(answer, known)
                for listed, by in request.only_own.items():
                    if "body" in answer:
                        own = [each for each in answer["body"][listed] if each[by].startswith("$")]
                        answer["body"][listed] = sorted(own, key=lambda each: each[by])
                answers.append(answer)
        return answers

    def _exchanges(self) -> list[list[Request]]:
        """Requests that depend on captured names come in exchanges of their own; others share a connection."""
        groups: list[list[Request]] = [[]]
        for request in self.requests:
            groups[-1].append(request)
            if request.capture:
                groups.append([])
        return [group for group in groups if group]


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, Records):
        return value.fill(names)
    if isinstance(value, str) and value.startswith("$"):
        name, _, rest = value.partition("/")
        return f"{names[name]}{rest}" if rest else names[name]
    if isinstance(value, Mapping):
        return {key: fill(each, names) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(each, names) for each in value]
    return value


def normalise(value: Any, names: Mapping[str, Any]) -> Any:
    """Names back in place of what they stand for; what the broker makes up and accidental fields left out.

    A refused batch has no log start offset worth knowing: Kafka gives the true one or -1, by the place of the refusal.
    """
    if isinstance(value, dict):
        return {
            key: MADE_UP[key](each) if key in MADE_UP else ordered(key, normalise(each, names))
            for key, each in sorted(value.items())
            if key not in LEFT_OUT and not (key == "logStartOffset" and value.get("baseOffset") == -1)
        }
    if isinstance(value, list):
        return [normalise(each, names) for each in value]
    for name, known in names.items():
        if isinstance(value, str) and isinstance(known, str) and known and value.startswith(known):
            rest = value[len(known) :]
            return f"{name}/{rest}" if rest else name
    return value


def ordered(key: str, value: Any) -> Any:
    """Kafka builds these lists from hash maps: their order means nothing."""
    by = {"partitionResponses": "index", "configs": "name", "responses": "resourceName", "results": "groupId"}.get(key)
    return sorted(value, key=lambda each: each[by]) if by is not None and value and by in value[0] else value


def dig(value: Any, path: Sequence[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


def bytes_field(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
