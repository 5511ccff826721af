"""The broker under test: the release binary of this repository."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..failure import CannotRun, Failed
from ..paths import REPOSITORY
from .base import Broker, BrokerFactory, free_port


class OttlaBroker(Broker):
    clean_exit_codes = (0,)
    stop_seconds = 5.0

    def __init__(self, binary: Path, directory: Path, port: int, settings: Mapping[str, str]):
        super().__init__(directory, port, settings)
        self._binary = binary

    def command(self, overrides: Mapping[str, str]) -> list[str]:
        settings = {"listeners": f"PLAINTEXT://{self.host}:{self.port}", **self.settings, **overrides}
        data_directory = settings.pop("data-dir", str(self.data_directory))
        command = [str(self._binary), "server"]
        if "log.dirs" not in settings:
            command += ["--data-dir", data_directory]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def end_well(self) -> None:
        # A clean stop as well, since it takes no time: one that died of the last thing it was asked shows so.
        self.check_alive()
        if self.pid is not None:
            code, _ = self.stop()
            if code not in self.clean_exit_codes:
                raise Failed(f"the broker ended with {code} when told to stop")

    def check_no_panic(self, since: int) -> None:
        # A handler that panics closes its connection, which is also how hostile bytes are answered.
        if not self.log_path.exists():
            return
        with open(self.log_path, "rb") as log:
            log.seek(since)
            panics = [line for line in log if b"panicked at" in line]
        if panics:
            raise Failed(f"the broker panicked: {panics[0].decode(errors='replace').strip()}")


class OttlaFactory(BrokerFactory):
    name = "ottla"

    def __init__(self, binary: Path | None = None):
        self._given = binary
        self._binary: Path | None = None

    def prepare(self) -> str:
        if self._given is not None:
            self._binary = self._given.resolve()
        else:
            built = subprocess.run(["cargo", "build", "--release", "-q", "-p", "ottla"], cwd=REPOSITORY, check=False)
            if built.returncode != 0:
                raise CannotRun("cargo build --release -p ottla failed")
            target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
            self._binary = target / "release" / "ottla"
        if not self._binary.is_file():
            raise CannotRun(f"there is no binary at {self._binary}")
        version = subprocess.run([self._binary, "--version"], capture_output=True, text=True, check=False)
        if version.returncode != 0:
            raise CannotRun(f"{self._binary} --version ended with {version.returncode}: {version.stderr}")
        return version.stdout.strip()

    def binary(self) -> Path:
        assert self._binary is not None, "prepare() comes first"
        return self._binary

    def create(
        self, directory: Path, settings: Mapping[str, str] | None = None, port: int | None = None
    ) -> OttlaBroker:
        return OttlaBroker(self.binary(), directory, port or free_port(), settings or {})
