"""Brings what a run needs onto the machine: the two builds, Apache Kafka's jars, the JVM. Fails loudly."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from .failure import CannotRun
from .paths import BENCH, CACHE, REPOSITORY, target


def ottla() -> Path:
    """The release binary of this tree."""
    _run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "ottla"], REPOSITORY)
    return target(REPOSITORY) / "release" / "ottla"


def flush_rounds() -> Path:
    """The storage engine of this tree, flushing."""
    _run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "ottla-log", "--example", "flush"], REPOSITORY)
    return target(REPOSITORY) / "release" / "examples" / "flush"


def limits() -> Path:
    return _workspace_binary("ottla-bench-limits")


def load() -> Path:
    return _workspace_binary("load")


def rdkafka_performance() -> Path:
    return _workspace_binary("rdkafka_performance")


def test_workspace() -> None:
    """The tests of the programs of this workspace, in the profile that is measured."""
    _run(["cargo", "test", "--release", "--quiet", "--locked"], BENCH)


def kafka_classpath() -> str:
    return f"{_jars('kafka')}/*"


def tools_classpath() -> str:
    return f"{_jars('tools')}/*"


def java() -> str:
    return _command("java", "default-jdk-headless")


def _workspace_binary(name: str) -> Path:
    if name != "ottla-bench-limits":
        for tool, package in (("cc", "build-essential"), ("make", "build-essential")):
            _command(tool, package)
    package = "ottla-bench-limits" if name == "ottla-bench-limits" else "ottla-bench-librdkafka"
    _run(["cargo", "build", "--release", "--quiet", "--locked", "-p", package, "--bin", name], BENCH)
    return target(BENCH) / "release" / name


def _jars(name: str) -> Path:
    pom = BENCH / name / "pom.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    jars = CACHE / f"{name}-jars-{digest}"
    java()
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "install.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            partial = CACHE / f"{name}-jars.partial"
            shutil.rmtree(partial, ignore_errors=True)
            maven = _command("mvn", "maven")
            _run([maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"])
            partial.rename(jars)
    return jars


def _command(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        print(f"bench: installing {package}", flush=True)
        root = [] if os.geteuid() == 0 else ["sudo"]
        _run([*root, "apt-get", "update", "-qq"])
        _run([*root, "apt-get", "install", "-y", "-qq", package])
        found = shutil.which(name)
    if found is None:
        raise CannotRun(f"{name} is not on the PATH although the Debian package {package} was installed")
    return found


def _run(command: list[str], directory: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
