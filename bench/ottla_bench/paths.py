"""Where things are in the source tree."""

import os
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
CACHE = BENCH / ".cache"
RESULTS = BENCH / "results"
DOCUMENT = REPOSITORY / "docs" / "performance.md"


def target(workspace: Path) -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or workspace / "target")
