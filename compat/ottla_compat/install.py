"""Brings what a run needs onto the machine: kcat, jars, the compiled Java driver, public text. Fails loudly."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .failure import CannotRun
from .paths import CACHE, COMPAT

TEXT_PACKAGE = "perl-doc"


def kcat() -> str:
    """The path of Debian's kcat, whose librdkafka is old on purpose."""
    return _command("kcat", "kcat")


def java() -> str:
    return _command("java", "default-jdk-headless")


def java_driver_classpath() -> str:
    """Jars and the driver's classes, compiled when a source changed."""
    java()
    with _locked():
        jars = _jars("java-driver", COMPAT / "drivers" / "java" / "pom.xml")
        sources = sorted((COMPAT / "drivers" / "java").glob("*.java"))
        digest = _digest([*sources, COMPAT / "drivers" / "java" / "pom.xml"])
        classes = CACHE / f"java-driver-classes-{digest}"
        if not classes.exists():
            for old in CACHE.glob("java-driver-classes-*"):
                shutil.rmtree(old)
            fresh = CACHE / "java-driver-classes.partial"
            shutil.rmtree(fresh, ignore_errors=True)
            javac = _command("javac", "default-jdk-headless")
            _run([javac, "-cp", f"{jars}/*", "-d", str(fresh), *map(str, sources)])
            fresh.rename(classes)
    return f"{classes}:{jars}/*"


def go_driver(client: str) -> Path:
    """The driver of one Go client, built when a source or the lock file changed."""
    go = _command("go", "golang-go")
    sources = COMPAT / "drivers" / "go"
    files = [path for path in sorted(sources.rglob("*")) if path.suffix in (".go", ".mod", ".sum")]
    with _locked():
        return _built(
            f"go-{client}",
            files,
            lambda binary: _run([go, "build", "-mod=readonly", "-o", str(binary), f"./{client}"], cwd=sources),
        )


def kafkajs_driver() -> list[str]:
    """Node and the driver's script beside its installed packages."""
    node, npm = _command("node", "nodejs"), _command("npm", "npm")
    sources = COMPAT / "drivers" / "kafkajs"
    locked = [sources / "package.json", sources / "package-lock.json"]
    with _locked():
        packages = CACHE / f"kafkajs-{_digest(locked)}"
        if not packages.exists():
            partial = _fresh_partial("kafkajs")
            for file in locked:
                shutil.copy(file, partial)
            _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=partial)
            partial.rename(packages)
    # CommonJS looks for packages beside the script; NODE_PATH names another place.
    return ["env", f"NODE_PATH={packages / 'node_modules'}", node, str(sources / "main.js")]


def rdkafka_driver() -> Path:
    """The driver of the Rust crate; librdkafka comes with it and is built once."""
    cargo = _command("cargo", "cargo")
    sources = COMPAT / "drivers" / "rdkafka"
    files = [*sorted((sources / "src").glob("*.rs")), sources / "Cargo.toml", sources / "Cargo.lock"]
    target = CACHE / "rdkafka-target"

    def build(binary: Path) -> None:
        _run([cargo, "build", "--locked", "--target-dir", str(target)], cwd=sources)
        shutil.copy(target / "debug" / "rdkafka-driver", binary)

    with _locked():
        return _built("rdkafka", files, build)


def fault_shim() -> Path:
    """The library that stands between the broker and its files, compiled when its source changed."""
    compiler = _command("cc", "gcc")
    source = COMPAT / "faults" / "shim.c"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    with _locked():
        return _built(
            "fault-shim", [source], lambda library: _run([compiler, *flags, "-o", str(library), str(source), "-ldl"])
        )


def kafka_classpath() -> str:
    java()
    with _locked():
        return f"{_jars('kafka', COMPAT / 'kafka' / 'pom.xml')}/*"


def public_text() -> list[Path]:
    """The text files of a Debian package of documentation, unpacked but not installed."""
    unpacked = CACHE / f"text-{TEXT_PACKAGE}"
    with _locked():
        if not unpacked.exists():
            partial = CACHE / f"text-{TEXT_PACKAGE}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                _run(["apt-get", "download", "-qq", TEXT_PACKAGE], cwd=partial)
            except CannotRun:
                _run([*_as_root(), "apt-get", "update", "-qq"])
                _run(["apt-get", "download", "-qq", TEXT_PACKAGE], cwd=partial)
            (package,) = partial.glob("*.deb")
            _run(["dpkg-deb", "-x", str(package), str(partial)])
            package.unlink()
            partial.rename(unpacked)
    files = sorted(path for path in unpacked.rglob("*.pod") if path.is_file() and not path.is_symlink())
    if not files:
        raise CannotRun(f"the Debian package {TEXT_PACKAGE} holds no .pod file")
    return files


def _built(name: str, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """A binary made from the sources, kept until one of them changes."""
    binary = CACHE / f"{name}-{_digest(sources)}"
    if not binary.exists():
        for old in CACHE.glob(f"{name}-*[0-9a-f]"):
            if old.is_file():
                old.unlink()
        print(f"compat: building the driver {name}", flush=True)
        partial = CACHE / f"{name}.partial"
        build(partial)
        partial.rename(binary)
    return binary


def _fresh_partial(name: str) -> Path:
    partial = CACHE / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


@contextmanager
def _locked() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "install.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _jars(name: str, pom: Path) -> Path:
    jars = CACHE / f"{name}-jars-{_digest([pom])}"
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
        print(f"compat: installing {package}", flush=True)
        _run([*_as_root(), "apt-get", "update", "-qq"])
        _run([*_as_root(), "apt-get", "install", "-y", "-qq", package])
        found = shutil.which(name)
    if found is None:
        raise CannotRun(f"{name} is not on the PATH although the Debian package {package} was installed")
    return found


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def _run(command: list[str], cwd: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
