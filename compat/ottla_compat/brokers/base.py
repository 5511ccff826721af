"""A broker process: started, stopped, killed, and asked whether it answers."""

import os
import signal
import socket
import struct
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .. import processes
from ..failure import CannotRun, Failed
from ..waiting import wait_until

# A loaded machine may need long for a JVM.
START_SECONDS = 180

# Settings of every broker a run starts: one node, and no three-second pause before a group's first rebalance.
COMMON_SETTINGS = {
    "node.id": "1",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.segment.bytes": str(64 * 1024 * 1024),
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers_api_versions(host: str, port: int) -> bool:
    """Whether an ApiVersions v0 request is answered without an error."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 10:
                part = connection.recv(65536)
                if not part:
                    return False
                answer += part
            return struct.unpack(">ih", answer[4:10]) == (7, 0)
    except OSError:
        return False


class Broker(ABC):
    """One broker of one node with its data directory, which survives `stop`, `kill` and `start`."""

    # How the process ends after SIGTERM when all is well, and how long that may take.
    clean_exit_codes: tuple[int, ...]
    stop_seconds: float

    def __init__(self, directory: Path, port: int, settings: Mapping[str, str]):
        self.directory = directory
        self.data_directory = directory / "data"
        self.host = "127.0.0.1"
        self.port = port
        self.settings = {**COMMON_SETTINGS, **settings}
        self.log_path = directory / "broker.log"
        # Of the process, beside the runner's own.
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @abstractmethod
    def command(self, overrides: Mapping[str, str]) -> list[str]:
        """The command line; `overrides` are settings for this start only."""

    def start(self, overrides: Mapping[str, str] | None = None) -> float:
        """Starts the process and waits until it answers; returns the seconds that took."""
        began = time.monotonic()
        self.launch(overrides or {})
        self.wait_ready()
        return time.monotonic() - began

    def launch(self, overrides: Mapping[str, str]) -> None:
        if self._process is not None:
            raise CannotRun("the broker is already running")
        with open(self.log_path, "ab") as log:
            command, environment = self.command(overrides), {**os.environ, **self.environment}
            self._process = processes.start(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )

    def wait_ready(self) -> None:
        def ready() -> bool:
            if self.exit_code() is not None:
                raise Failed(f"the broker ended with {self.exit_code()} while starting:\n{self.log_tail()}")
            return answers_api_versions(self.host, self.port)

        wait_until("the broker to answer", ready, START_SECONDS, self.log_tail, interval_s=0.01)

    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def wait_exit(self, seconds: float) -> int:
        """The exit code of a process that is expected to end."""
        assert self._process is not None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"the broker still runs after {seconds:g} s:\n{self.log_tail()}") from None
        self._process = None
        return code

    def stop(self) -> tuple[int, float]:
        """SIGTERM; returns the exit code and the seconds it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self.wait_exit(max(60.0, self.stop_seconds))
        return code, time.monotonic() - began

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Ends the process however it stands."""
        if self._process is not None and self._process.poll() is None:
            processes.kill(self._process)
        self._process = None

    def check_alive(self) -> None:
        """Fails if the process ended without having been told to."""
        code = self.exit_code()
        if code is not None:
            raise Failed(f"the broker ended by itself, with {code}")

    def end_well(self) -> None:
        """The end of a broker that is no longer needed: fails if it ended before."""
        self.check_alive()
        self.close()

    def check_no_panic(self, since: int) -> None:
        """Fails if the log, from this size of it on, tells of a panic the broker survived."""

    def resident_kib(self) -> int:
        return resident_kib(self.pid)

    def restart_peak(self) -> int:
        """Measures the largest resident memory anew from here, where the kernel lets us; returns it as it is now."""
        with suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")
        return self.peak_kib()

    def peak_kib(self) -> int:
        """The largest resident memory since `restart_peak`, or since the start."""
        return _status_kib(self.pid, "VmHWM:")

    def log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_tail(self, lines: int = 30, since: int = 0) -> str:
        """The last lines of what the process printed, `since` a size of the log."""
        if not self.log_path.exists():
            return "(no log)"
        with open(self.log_path, "rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace").splitlines()
        return "\n".join(text[-lines:])


class BrokerFactory(ABC):
    """Makes brokers of one kind."""

    name: str

    @abstractmethod
    def prepare(self) -> str:
        """Builds or downloads; returns the version line to print."""

    @abstractmethod
    def create(self, directory: Path, settings: Mapping[str, str] | None = None, port: int | None = None) -> Broker: ...


def resident_kib(pid: int | None) -> int:
    return _status_kib(pid, "VmRSS:")


def _status_kib(pid: int | None, field: str) -> int:
    if pid is None:
        raise CannotRun("the broker's process id is not known: give --broker-pid")
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise Failed(f"process {pid} has no {field} it is ending")
