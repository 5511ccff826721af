"""The driver of confluent-kafka-python."""

import threading
import time
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from ..record import decode_bytes
from .librdkafka import kafka_error_name, settings
from .python_admin import CAPABILITIES as ADMIN_CAPABILITIES
from .python_admin import AdminFunctions
from .python_bulk import Load, digest, dump, produce_lines
from .python_consumer import PolledConsumer, record_json
from .serve import DriverError, serve

ADMIN_SECONDS = 30.0
DELIVERY_SECONDS = 50.0

CAPABILITIES = [
    "admin",
    "assign",
    "commit",
    "cooperative",
    "empties",
    "empty-records",
    "eof",
    "fencing",
    "group",
    "group-protocol",
    "idempotence",
    "load",
    "log-append-time",
    "lz4",
    "name-errors",
    "no-reset",
    "null-headers",
    "offset-reset",
    "offsets-of-acks",
    "ordered-headers",
    "range",
    "reconnect",
    "roundrobin",
    "seek",
    "snappy",
    "static",
    "timestamps",
    "zstd",
]


def why_refused(producer: Producer, topic: str, error: KafkaError) -> KafkaError:
    """What the broker says of a topic. Where its answer is there before the record is, the library says of each that is
    wrong that it is unknown."""
    if error.code() != KafkaError._UNKNOWN_TOPIC:
        return error
    return producer.list_topics(topic, ADMIN_SECONDS).topics[topic].error or error


class PythonDriver:
    def __init__(self) -> None:
        self._bootstrap = ""
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None
        self._producers: dict[tuple[tuple[str, str], ...], Producer] = {}
        self._consumers: dict[str, PolledConsumer] = {}
        self._loads: dict[str, Load] = {}

    def hello(self, bootstrap: str) -> dict[str, Any]:
        self._bootstrap = bootstrap
        version = f"confluent-kafka-python {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"
        return {"client": "python", "version": version, "capabilities": [*CAPABILITIES, *ADMIN_CAPABILITIES]}

    # Topics and the cluster

    def create_topic(self, name: str, partitions: int, configs: dict[str, str], replication_factor: int = 1) -> None:
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replication_factor, config=configs)
        self._admin_client().create_topics([topic])[name].result(ADMIN_SECONDS)

    def delete_topic(self, name: str) -> None:
        self._admin_client().delete_topics([name])[name].result(ADMIN_SECONDS)

    def metadata(self, topic: str | None = None) -> dict[str, Any]:
        found = self._admin_client().list_topics(topic=topic, timeout=ADMIN_SECONDS)
        topics = {}
        for name, described in found.topics.items():
            if described.error is not None:
                if topic is not None:
                    raise KafkaException(described.error)
                continue
            topics[name] = [
                {"partition": partition.id, "leader": partition.leader, "replicas": partition.replicas}
                for partition in described.partitions.values()
            ]
        brokers = [{"id": broker.id, "host": broker.host, "port": broker.port} for broker in found.brokers.values()]
        return {"brokers": brokers, "topics": topics}

    def topic_id(self, name: str) -> str:
        described = self._admin_client().describe_topics(confluent_kafka.TopicCollection([name]))[name]
        return str(described.result(ADMIN_SECONDS).topic_id)

    def describe_cluster(self) -> dict[str, Any]:
        described = self._admin_client().describe_cluster().result(ADMIN_SECONDS)
        return {"cluster_id": described.cluster_id, "nodes": [node.id for node in described.nodes]}

    def describe_configs(self, kind: str, name: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType[kind.upper()], name)
        entries = self._admin_client().describe_configs([resource])[resource].result(ADMIN_SECONDS)
        return {key: entry.value for key, entry in entries.items()}

    def list_groups(self) -> list[dict[str, str]]:
        listing = self._admin_client().list_consumer_groups().result(ADMIN_SECONDS)
        if listing.errors:
            raise listing.errors[0]
        return [{"group": group.group_id, "state": group.state.name} for group in listing.valid]

    def describe_group(self, group: str) -> dict[str, Any]:
        described = self._admin_client().describe_consumer_groups([group])[group].result(ADMIN_SECONDS)
        return {
            "state": described.state.name,
            "assignor": described.partition_assignor,
            "members": [
                {
                    "client_id": member.client_id,
                    "instance_id": member.group_instance_id,
                    "partitions": sorted([tp.topic, tp.partition] for tp in member.assignment.topic_partitions),
                }
                for member in described.members
            ],
        }

    # Records

    def produce(self, topic: str, records: list[dict[str, Any]], config: dict[str, str]) -> dict[str, Any]:
        results: list[dict[str, Any] | None] = [None] * len(records)
        producer = self._producer(config)

        def delivered(index: int) -> Any:
            def report(error: Any, message: Any) -> None:
                if error is not None:
                    results[index] = {"error": kafka_error_name(error.code(), error.name()), "message": error.str()}
                else:
                    results[index] = {"partition": message.partition(), "offset": message.offset()}

            return report

        sent_ns = time.monotonic_ns()
        for index, record in enumerate(records):
            optional = {} if record["timestamp"] is None else {"timestamp": record["timestamp"]}
            headers = [(name, decode_bytes(value)) for name, value in record["headers"]]
            try:
                producer.produce(
                    topic,
                    value=decode_bytes(record["value"]),
                    key=decode_bytes(record["key"]),
                    partition=record["partition"],
                    headers=headers,
                    on_delivery=delivered(index),
                    **optional,
                )
            except KafkaException as error:
                failed = why_refused(producer, topic, error.args[0])
                results[index] = {"error": kafka_error_name(failed.code(), failed.name()), "message": failed.str()}
        left = producer.flush(DELIVERY_SECONDS)
        if left:
            raise DriverError("DELIVERY_TIMEOUT", f"{left} records not delivered after {DELIVERY_SECONDS:g} s")
        return {"results": results, "sent_ns": sent_ns, "acked_ns": time.monotonic_ns()}

    def read(
        self,
        topic: str,
        partitions: list[int],
        start: dict[str, Any],
        count: int | None,
        config: dict[str, str],
        timeout_s: float,
    ) -> dict[str, Any]:
        """Reads `count` records, or up to the end of every partition."""
        consumer = self._reader(config)
        try:
            consumer.assign(self._starting_points(consumer, topic, partitions, start))
            records: list[dict[str, Any]] = []
            ended: set[int] = set()
            end = time.monotonic() + timeout_s
            while (len(records) < count) if count is not None else (len(ended) < len(partitions)):
                if time.monotonic() > end:
                    raise DriverError("READ_TIMEOUT", f"{len(records)} records, ends of {sorted(ended)} seen")
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    records.append(record_json(message))
                elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif error.retriable() or error.code() == confluent_kafka.KafkaError._TRANSPORT:
                    continue
                else:
                    raise KafkaException(error)
            return {"records": records, "ended": sorted(ended)}
        finally:
            consumer.close()

    def offsets(self, topic: str, partition: int, at: str, timestamp: int | None = None) -> int:
        consumer = self._reader({})
        try:
            if at == "timestamp":
                asked = TopicPartition(topic, partition, timestamp)
                (found,) = consumer.offsets_for_times([asked], timeout=ADMIN_SECONDS)
                return found.offset if found.offset >= 0 else -1
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ADMIN_SECONDS)
            return low if at == "beginning" else high
        finally:
            consumer.close()

    def produce_lines(self, **args: Any) -> dict[str, Any]:
        return produce_lines(self._bootstrap, **args)

    def digest(self, **args: Any) -> dict[str, Any]:
        return digest(self._bootstrap, **args)

    def dump(self, **args: Any) -> dict[str, Any]:
        return dump(self._bootstrap, **args)

    # Consumers that stay

    def consumer_open(self, id: str, **args: Any) -> None:
        self._consumers[id] = PolledConsumer(self._bootstrap, **args)

    def consumer_state(self, id: str) -> dict[str, Any]:
        return self._consumers[id].state()

    def consumer_take(self, id: str) -> dict[str, Any]:
        return {"records": self._consumers[id].take()}

    def consumer_do(self, id: str, action: str, **args: Any) -> Any:
        return self._consumers[id].do(action, args)

    def consumer_close(self, id: str) -> None:
        self._consumers.pop(id).close()

    # A load that goes on while the broker is killed

    def load_start(self, id: str, **args: Any) -> None:
        self._loads[id] = Load(self._bootstrap, id, **args)

    def load_state(self, id: str) -> dict[str, Any]:
        return self._loads[id].state()

    def load_stop(self, id: str) -> dict[str, Any]:
        return self._loads.pop(id).stop()

    def _admin_client(self) -> AdminClient:
        with self._lock:
            if self._admin is None:
                self._admin = AdminClient({**settings({}), "bootstrap.servers": self._bootstrap})
            return self._admin

    def _producer(self, config: dict[str, str]) -> Producer:
        key = tuple(sorted(config.items()))
        with self._lock:
            if key not in self._producers:
                self._producers[key] = Producer({**settings(config), "bootstrap.servers": self._bootstrap})
            return self._producers[key]

    def _reader(self, config: dict[str, str]) -> Consumer:
        return Consumer(
            {
                **settings({"auto.offset.reset": "none", **config}),
                "bootstrap.servers": self._bootstrap,
                "group.id": "compat-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )

    @staticmethod
    def _starting_points(
        consumer: Consumer, topic: str, partitions: list[int], start: dict[str, Any]
    ) -> list[TopicPartition]:
        at = start["at"]
        if at == "timestamp":
            asked = [TopicPartition(topic, partition, start["value"]) for partition in partitions]
            return consumer.offsets_for_times(asked, timeout=ADMIN_SECONDS)
        fixed = {"beginning": confluent_kafka.OFFSET_BEGINNING, "end": confluent_kafka.OFFSET_END}
        offset = start["value"] if at == "offset" else fixed[at]
        return [TopicPartition(topic, partition, offset) for partition in partitions]


def translate(error: Exception) -> DriverError:
    if isinstance(error, KafkaException):
        failed = error.args[0]
        return DriverError(kafka_error_name(failed.code(), failed.name()), failed.str())
    return DriverError(type(error).__name__, str(error))


if __name__ == "__main__":
    driver = PythonDriver()
    operations = {name: getattr(driver, name) for name in dir(driver) if not name.startswith("_")}
    operations |= AdminFunctions(driver._admin_client).operations()
    serve(operations, translate)
