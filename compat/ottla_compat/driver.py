"""The runner's end of a driver: a process that speaks JSON lines and holds one client library.

A request is `{"id": 1, "op": "produce", "args": {...}}`, its answer `{"id": 1, "result": {...}}` or
`{"id": 1, "error": {"name": ..., "message": ...}}`. Requests run side by side; answers come in any order.
README.md lists the operations.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

from . import install, processes
from .failure import CannotRun, ClientError, Failed
from .paths import COMPAT

CLIENTS = (
    "python",
    "java",
    "kcat",
    "franz",
    "sarama",
    "kafkago",
    "kafka-python",
    "aiokafka",
    "kafkajs",
    "rdkafka",
)
# What a driver's capability "admin" promises.
EVERY_ADMIN = frozenset(
    {
        "create_topic",
        "delete_topic",
        "metadata",
        "topic_id",
        "describe_cluster",
        "describe_configs",
        "list_groups",
        "describe_group",
    }
)
GO_CLIENTS = ("franz", "sarama", "kafkago")
CALL_SECONDS = 60.0


def driver_command(client: str) -> list[str]:
    if client == "java":
        classpath = install.java_driver_classpath()
        return [
            install.java(),
            "-Xmx768m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=4",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            classpath,
            "Main",
        ]
    if client in GO_CLIENTS:
        return [str(install.go_driver(client))]
    if client == "kafkajs":
        return install.kafkajs_driver()
    if client == "rdkafka":
        return [str(install.rdkafka_driver())]
    if client == "kcat":
        install.kcat()
    return [sys.executable, "-m", f"ottla_compat.drivers.{client.replace('-', '_')}"]


class Driver:
    """One driver process, bound to one broker."""

    def __init__(self, client: str, bootstrap: str, log_path: Path):
        self.client = client
        self._log_path = log_path
        self._pending: dict[int, Future[Any]] = {}
        self._next_id = 0
        self._lock = threading.Lock()
        environment = {**os.environ, "PYTHONPATH": str(COMPAT), "PYTHONUNBUFFERED": "1"}
        with open(log_path, "ab") as log:
            self._process = processes.start(
                driver_command(client), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        threading.Thread(target=self._read_answers, daemon=True).start()
        try:
            hello = self.call("hello", bootstrap=bootstrap)
        except BaseException:
            self.kill()
            raise
        self.version: str = hello["version"]
        capabilities = frozenset(hello["capabilities"])
        self.capabilities = capabilities | EVERY_ADMIN if "admin" in capabilities else capabilities

    def start(self, op: str, **args: Any) -> "Future[Any]":
        """Sends a request without waiting for its answer."""
        future: Future[Any] = Future()
        with self._lock:
            self._next_id += 1
            request_id = self._next_id
            self._pending[request_id] = future
            line = json.dumps({"id": request_id, "op": op, "args": args}).encode() + b"\n"
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except OSError as error:
                raise Failed(f"the {self.client} driver is gone ({error}):\n{self._log_tail()}") from None
        return future

    def call(self, op: str, wait_s: float = CALL_SECONDS, **args: Any) -> Any:
        try:
            answer = self.start(op, **args).result(wait_s)
        except FutureTimeout:
            raise Failed(f"{self.client} driver: {op} not finished after {wait_s:g} s:\n{self._log_tail()}") from None
        if "error" in answer:
            raise ClientError(answer["error"]["name"], answer["error"]["message"], op)
        return answer["result"]

    def kill(self) -> None:
        """kill -9 of the driver and what it started: its clients say no farewell."""
        processes.kill(self._process)

    def close(self) -> None:
        if self._process.poll() is None and self._process.stdin is not None:
            try:
                self._process.stdin.close()
                self._process.wait(5)
            except (OSError, subprocess.TimeoutExpired):
                pass
        self.kill()

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                future = self._pending.pop(answer["id"])
            future.set_result(answer)
        with self._lock:
            lost, self._pending = self._pending, {}
        for future in lost.values():
            future.set_result({"error": {"name": "DRIVER_GONE", "message": f"the driver ended:\n{self._log_tail()}"}})

    def _log_tail(self, lines: int = 15) -> str:
        text = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(text[-lines:])


class Drivers:
    """The drivers of one run, started when first asked for. `process` names further processes of one client."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._running: dict[tuple[str, str, str], Driver] = {}
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)

    def get(self, client: str, bootstrap: str, process: str = "main") -> Driver:
        if client not in CLIENTS:
            raise CannotRun(f"there is no driver {client!r}; there are {', '.join(CLIENTS)}")
        key = (client, bootstrap, process)
        with self._lock:
            if key not in self._running:
                self._running[key] = Driver(client, bootstrap, self._directory / f"{client}-{process}.log")
            return self._running[key]

    def kill(self, client: str, bootstrap: str, process: str) -> None:
        with self._lock:
            driver = self._running.pop((client, bootstrap, process))
        driver.kill()

    def close_extra(self, client: str) -> None:
        """Ends every process of the client but its main one."""
        self._close(lambda key: key[0] == client and key[2] != "main")

    def close(self, bootstrap: str | None = None) -> None:
        """Ends all drivers, or those of one broker."""
        self._close(lambda key: bootstrap in (None, key[1]))

    def _close(self, chosen: Callable[[tuple[str, str, str]], bool]) -> None:
        with self._lock:
            ended = [self._running.pop(key) for key in list(self._running) if chosen(key)]
        for driver in ended:
            driver.close()
