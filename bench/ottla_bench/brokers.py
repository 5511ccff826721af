"""The brokers that are compared: each a process with a data directory of its own, started alone."""

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from . import install
from .failure import BrokerLost, CannotRun
from .paths import BENCH
from .processes import cpu_seconds, die_with_parent, resident_kib
from .wire import Connection, answers_metadata

KAFKA_VERSION = "4.4.0"
CLUSTER_ID = "b3R0bGEtYmVuY2gtMDAwMQ"
START_SECONDS = 180
# Deleted files go before the next cell, on both; nothing else of a broker's own configuration is touched.
DELETE_DELAY = ("log.segment.delete.delay.ms", "200")

# What kafka-server-start.sh and kafka-run-class.sh of Apache Kafka give the JVM when nothing is set.
KAFKA_JVM = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
    "-Dcom.sun.management.jmxremote=true",
    "-Dcom.sun.management.jmxremote.authenticate=false",
    "-Dcom.sun.management.jmxremote.ssl=false",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker(ABC):
    """One broker; its data directory survives `stop` and `start`, and goes with `remove`."""

    kind: str
    clean_exits: tuple[int, ...] = (0,)

    def __init__(self, directory: Path):
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.log = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None or self._process.poll() is not None:
            raise BrokerLost(f"{self.kind} is not running:\n{self.log_tail()}")
        return self._process.pid

    def prepare(self) -> None:
        """What must be done before the first start, and is no part of it."""

    @abstractmethod
    def command(self) -> list[str]: ...

    def start(self, tied: bool = True) -> float:
        """Seconds from exec to the first answered request. A tied process is killed by the kernel with this one; untied
        it starts as fast as a shell would start it."""
        command = self.command()
        with open(self.log, "ab") as log:
            begun = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent if tied else None,
            )
        while not answers_metadata(self.port):
            if self._process.poll() is not None:
                raise BrokerLost(f"{self.kind} ended with {self._process.returncode}:\n{self.log_tail()}")
            if time.perf_counter() - begun > START_SECONDS:
                raise BrokerLost(f"{self.kind} did not answer within {START_SECONDS} s:\n{self.log_tail()}")
            time.sleep(0.0005)
        return time.perf_counter() - begun

    def stop(self) -> None:
        """A clean stop."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise BrokerLost(f"{self.kind} did not stop within 60 s:\n{self.log_tail()}") from None
        if status not in self.clean_exits:
            raise BrokerLost(f"{self.kind} ended its stop with {status}:\n{self.log_tail()}")

    def kill(self) -> None:
        """Ends the process however it stands."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def remove(self) -> None:
        """Ends the process, and removes its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def resident_mib(self) -> float:
        return resident_kib(self.pid) / 1024

    def connect(self) -> Connection:
        return Connection(self.port)

    def log_tail(self) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])


class OttlaBroker(Broker):
    def __init__(self, binary: Path, durability: str, directory: Path):
        super().__init__(directory)
        self.kind = f"ottla {durability}"
        self._binary = binary
        self._durability = durability

    def command(self) -> list[str]:
        settings = {
            "listeners": f"PLAINTEXT://{self.bootstrap}",
            "offsets.topic.replication.factor": "1",
            DELETE_DELAY[0]: DELETE_DELAY[1],
            "ottla.durability": self._durability,
        }
        command = [str(self._binary), "server", "--data-dir", str(self.data)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return command


class KafkaBroker(Broker):
    kind = "kafka"
    # A JVM that SIGTERM ends says so, however orderly it went.
    clean_exits = (0, 128 + signal.SIGTERM)

    def __init__(self, classpath: str, directory: Path):
        super().__init__(directory)
        controller = free_port()
        self._classpath = classpath
        self._properties = directory / "server.properties"
        listeners = f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}"
        added = {
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": listeners,
            "advertised.listeners": listeners,
            "log.dirs": str(self.data),
            DELETE_DELAY[0]: DELETE_DELAY[1],
        }
        shipped = (BENCH / "kafka" / "server.properties").read_text(encoding="utf-8")
        self._properties.write_text(
            shipped + "".join(f"{key}={value}\n" for key, value in added.items()), encoding="utf-8"
        )

    def prepare(self) -> None:
        command = [install.java(), "-cp", self._classpath, "kafka.tools.StorageTool", "format", "--standalone"]
        command += ["-t", CLUSTER_ID, "-c", str(self._properties)]
        formatted = subprocess.run(command, capture_output=True, text=True, check=False)
        if formatted.returncode != 0:
            raise CannotRun(f"formatting Kafka's storage failed:\n{formatted.stdout}{formatted.stderr}")

    def command(self) -> list[str]:
        gc_log = f"-Xlog:gc*:file={self.directory}/kafkaServer-gc.log:time,tags:filecount=10,filesize=100M"
        return [install.java(), *KAFKA_JVM, gc_log, "-cp", self._classpath, "kafka.Kafka", str(self._properties)]


class Brokers:
    """Makes the brokers of a run, in directories beneath one on the disk that is measured."""

    def __init__(self, root: Path, ottla: Path, kafka_classpath: str | None):
        self._root = root
        self._ottla = ottla
        self._count = 0
        self._live: list[Broker] = []
        self._makers: dict[str, Callable[[Path], Broker]] = {
            "ottla page-cache": lambda directory: OttlaBroker(ottla, "page-cache", directory),
            "ottla fsync": lambda directory: OttlaBroker(ottla, "fsync", directory),
        }
        if kafka_classpath is not None:
            self._makers["kafka"] = lambda directory: KafkaBroker(kafka_classpath, directory)

    @property
    def kinds(self) -> list[str]:
        return list(self._makers)

    @property
    def root(self) -> Path:
        return self._root

    @property
    def ottla(self) -> Path:
        """The binary, whose tools make load for every broker."""
        return self._ottla

    def in_turn(self, run: int) -> list[str]:
        """The kinds in an order that another starts in each repetition."""
        kinds = self.kinds
        return kinds[run % len(kinds) :] + kinds[: run % len(kinds)]

    def create(self, kind: str) -> Broker:
        self._count += 1
        broker = self._makers[kind](self._root / f"broker-{self._count}")
        self._live.append(broker)
        broker.prepare()
        return broker

    def discard(self, broker: Broker) -> None:
        broker.remove()
        self._live.remove(broker)

    def close(self) -> None:
        for broker in list(self._live):
            self.discard(broker)
