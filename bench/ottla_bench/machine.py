"""What a figure was measured on."""

import hashlib
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from .install import java
from .paths import REPOSITORY


def describe(directory: Path, ottla: Path, of_this_tree: bool, kafka: bool) -> dict[str, object]:
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    described: dict[str, object] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "processor": model.group(1).strip() if model else platform.machine(),
        "memory_gib": round(int(memory.group(1)) / (1 << 20)) if memory else 0,
        "kernel": platform.release(),
        "file_system": _said(["stat", "-f", "-c", "%T", str(directory)]),
        "ottla": _said([str(ottla), "--version"]).removeprefix("ottla "),
        "ottla_binary_mib": round(ottla.stat().st_size / (1 << 20), 1),
        "ottla_binary": hashlib.sha256(ottla.read_bytes()).hexdigest()[:16],
        "load_before": round(os.getloadavg()[0], 2),
    }
    if of_this_tree:
        described["ottla"] = f"{described['ottla']} at {_said(['git', '-C', str(REPOSITORY), 'describe', '--always', '--dirty'])}"
    if kafka:
        version = _said([java(), "-version"])
        described["java"] = version.splitlines()[0] if version else "unknown"
    return described


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""
