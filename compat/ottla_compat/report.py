"""The table at the end, the JSON, and the comparison with the committed counts."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .paths import EXPECTED_COUNTS
from .runner import Outcome

Counts = dict[str, dict[str, int]]


def counts(outcomes: Iterable[Outcome]) -> Counts:
    """Scenarios run, by suite and client."""
    found: Counts = {}
    for outcome in outcomes:
        suite = found.setdefault(outcome.suite, {})
        suite[outcome.client] = suite.get(outcome.client, 0) + 1
    return found


def table(outcomes: Sequence[Outcome]) -> str:
    run = counts(outcomes)
    clients = sorted({outcome.client for outcome in outcomes})
    failed = Counter((outcome.suite, outcome.client) for outcome in outcomes if not outcome.passed)
    seconds: Counter[str] = Counter()
    for outcome in outcomes:
        seconds[outcome.suite] += outcome.seconds  # type: ignore[assignment]
    lines = [f"{'suite':16}" + "".join(f"{client:>16}" for client in clients) + f"{'seconds':>10}"]
    for suite, by_client in run.items():
        cells = ""
        for client in clients:
            count = by_client.get(client, 0)
            bad = failed[suite, client]
            cells += f"{'-' if not count else f'{count}' if not bad else f'{count} ({bad} failed)':>16}"
        lines.append(f"{suite:16}{cells}{seconds[suite]:>10.0f}")
    return "\n".join(lines)


def by_client(outcomes: Sequence[Outcome], versions: Mapping[str, str]) -> str:
    """Each client with its version and how many of its scenarios passed."""
    run = Counter(outcome.client for outcome in outcomes)
    passed = Counter(outcome.client for outcome in outcomes if outcome.passed)
    width = max([len("client"), *(len(client) for client in run)]) + 2
    lines = [f"{'client':{width}}{'passed':>12}  version"]
    for client, count in run.items():
        lines.append(f"{client:{width}}{f'{passed[client]}/{count}':>12}  {versions.get(client, '')}".rstrip())
    return "\n".join(lines)


def too_few(run: Counts, broker_kind: str, suites: Iterable[str], clients: Sequence[str]) -> list[str]:
    """Suites of this run that ran fewer scenarios than the committed count."""
    expected: dict[str, Counts] = json.loads(EXPECTED_COUNTS.read_text(encoding="utf-8"))
    committed = expected[broker_kind]
    missing = []
    for suite in suites:
        for client, count in committed.get(suite, {}).items():
            actual = run.get(suite, {}).get(client, 0)
            if client in clients and actual < count:
                missing.append(f"{suite}, {client}: {actual} scenarios run, {count} expected")
    return missing


def as_json(outcomes: Sequence[Outcome], versions: Mapping[str, str], missing: Sequence[str]) -> str:
    document: dict[str, Any] = {
        "versions": dict(versions),
        "counts": counts(outcomes),
        "too_few": list(missing),
        "passed": not missing and all(outcome.passed for outcome in outcomes),
        "scenarios": [
            {
                "suite": outcome.suite,
                "client": outcome.client,
                "name": outcome.scenario,
                "seconds": round(outcome.seconds, 3),
                "error": outcome.error,
                "notes": outcome.notes,
            }
            for outcome in outcomes
        ],
    }
    return json.dumps(document, indent=2)
