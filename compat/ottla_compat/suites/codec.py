"""Equality with Apache's own classes: the programs in compat/codec, compat/record and compat/partitioner, counted here."""

import re
import subprocess
from pathlib import Path

from ..failure import check
from ..paths import COMPAT
from ..scenario import WIRE, Context, Program, Suite

PROGRAM_SECONDS = 900
LAST_LINE = re.compile(r"(\d[\d,]*) cases passed, (\d[\d,]*) failed")


def comparison(name: str) -> Program:
    program = COMPAT / name / "run"

    def body(context: Context) -> None:
        passed, failed = run(program)
        context.note(f"{passed} cases")
        check(passed > 0 and failed == 0, f"{passed} cases passed, {failed} failed")

    return Program(name, body)


def run(program: Path) -> tuple[int, int]:
    done = subprocess.run([program], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)
    lines = done.stdout.strip().splitlines()
    found = LAST_LINE.search(lines[-1]) if lines else None
    output = "\n".join([*lines[-20:], *done.stderr.strip().splitlines()[-20:]])
    check(done.returncode == 0, f"{program} ended with {done.returncode}:\n{output}")
    check(found, f"the last line of {program} counts no cases:\n{output}")
    assert found is not None
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


SUITE = Suite("codec", [comparison("codec"), comparison("record"), comparison("partitioner")], clients=(WIRE,), needs_broker=False)
