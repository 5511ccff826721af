"""Where things are in the source tree."""

from pathlib import Path

COMPAT = Path(__file__).resolve().parent.parent
REPOSITORY = COMPAT.parent
CACHE = COMPAT / ".cache"
RECORDED = COMPAT / "recorded"
EXPECTED_COUNTS = COMPAT / "expected.json"
