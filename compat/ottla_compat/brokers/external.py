"""A broker somebody else runs: it can be talked to, not stopped."""

from collections.abc import Mapping
from pathlib import Path

from ..failure import CannotRun
from .base import Broker, answers_api_versions, resident_kib


class ExternalBroker(Broker):
    clean_exit_codes = ()
    stop_seconds = 0.0

    def __init__(self, directory: Path, host: str, port: int, pid: int | None):
        super().__init__(directory, port, {})
        self.host = host
        self._pid = pid

    @property
    def pid(self) -> int | None:
        return self._pid

    def command(self, overrides: Mapping[str, str]) -> list[str]:
        raise CannotRun("a broker given by --bootstrap cannot be started or stopped")

    def resident_kib(self) -> int:
        return resident_kib(self._pid)

    def log_tail(self, lines: int = 30, since: int = 0) -> str:
        return "(the broker's log is not known)"


def external(directory: Path, bootstrap: str, pid: int | None) -> ExternalBroker:
    host, _, port = bootstrap.rpartition(":")
    if not host or not port.isdigit():
        raise CannotRun(f"--bootstrap takes HOST:PORT, not {bootstrap!r}")
    if not answers_api_versions(host.strip("[]"), int(port)):
        raise CannotRun(f"nothing at {bootstrap} answers an ApiVersions request")
    return ExternalBroker(directory, host.strip("[]"), int(port), pid)
