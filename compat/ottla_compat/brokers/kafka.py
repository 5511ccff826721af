"""Apache Kafka, the oracle: what it answers is what a scenario expects."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from .. import install
from ..failure import CannotRun
from .base import Broker, BrokerFactory, free_port

VERSION = "4.4.0"
CLUSTER_ID = "b3R0bGEtY29tcGF0LTAwMQ"


class KafkaBroker(Broker):
    # The JVM's own code for SIGTERM.
    clean_exit_codes = (143,)
    stop_seconds = 30.0

    def __init__(self, classpath: str, directory: Path, port: int, settings: Mapping[str, str]):
        super().__init__(directory, port, settings)
        self._classpath = classpath
        self._controller_port = free_port()

    def command(self, overrides: Mapping[str, str]) -> list[str]:
        properties = self.directory / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://{self.host}:{self.port},CONTROLLER://{self.host}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@{self.host}:{self._controller_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data_directory),
            **self.settings,
            **overrides,
        }
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
        java = [install.java(), "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", self._classpath]
        if not (self.data_directory / "meta.properties").exists():
            formatted = subprocess.run(
                [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)],
                capture_output=True,
                text=True,
                check=False,
            )
            if formatted.returncode != 0:
                raise CannotRun(f"formatting Kafka's storage failed:\n{formatted.stdout}{formatted.stderr}")
        return [*java, "kafka.Kafka", str(properties)]


class KafkaFactory(BrokerFactory):
    name = "kafka"

    def __init__(self) -> None:
        self._classpath = ""

    def prepare(self) -> str:
        self._classpath = install.kafka_classpath()
        return f"Apache Kafka {VERSION}"

    def create(
        self, directory: Path, settings: Mapping[str, str] | None = None, port: int | None = None
    ) -> KafkaBroker:
        return KafkaBroker(self._classpath, directory, port or free_port(), settings or {})
