"""The admin functions of kafka-python."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kafka
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource
from kafka.errors import for_code
from kafka.protocol.consumer import OffsetSpec

from .pure_python import state_name
from .serve import DriverError

CAPABILITIES = [
    "admin",
    "create_partitions",
    "delete_records",
    "config_entries",
    "alter_configs",
    "incremental_alter_configs",
    "describe_log_dirs",
    "delete_group",
    "delete_offsets",
    "list_offsets",
    "group_offsets",
    "describe_producers",
    "list_config_resources",
]

# The leader of a group assigns what its metadata knows: it is to hear of a new topic soon.
COMMON = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 200, "metadata_max_age_ms": 1000}


class AdminFunctions:
    """Mixed into the driver. Each call has a client of its own, which keeps nothing over restarts of the broker."""

    _bootstrap: str

    @contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(bootstrap_servers=self._bootstrap, **COMMON)
        try:
            yield admin
        finally:
            admin.close()

    def create_topic(self, name: str, partitions: int, configs: dict[str, str], replication_factor: int = 1) -> None:
        topic = {"num_partitions": partitions, "replication_factor": replication_factor, "configs": configs}
        with self._admin() as admin:
            admin.create_topics({name: topic})

    def delete_topic(self, name: str) -> None:
        with self._admin() as admin:
            admin.delete_topics([name])

    def metadata(self, topic: str | None = None) -> dict[str, Any]:
        with self._admin() as admin:
            cluster = admin.describe_cluster()
            found = admin.describe_topics(None if topic is None else [topic])
        topics = {}
        for each in found:
            if each["error_code"] and topic is not None:
                raise for_code(each["error_code"])
            topics[each["name"]] = [
                {"partition": one["partition_index"], "leader": one["leader_id"], "replicas": one["replica_nodes"]}
                for one in sorted(each["partitions"], key=lambda one: one["partition_index"])
            ]
        brokers = [{"id": each["broker_id"], "host": each["host"], "port": each["port"]} for each in cluster["brokers"]]
        return {"brokers": brokers, "topics": topics}

    def topic_id(self, name: str) -> str:
        with self._admin() as admin:
            (found,) = admin.describe_topics([name])
        if found["error_code"]:
            raise for_code(found["error_code"])
        return str(found["topic_id"])

    def describe_cluster(self) -> dict[str, Any]:
        with self._admin() as admin:
            found = admin.describe_cluster()
        return {"cluster_id": found["cluster_id"], "nodes": [each["broker_id"] for each in found["brokers"]]}

    def _described(self, kind: str, name: str) -> dict[str, Any]:
        # What a resource that is not there is answered with, the library does not tell.
        with self._admin() as admin:
            resource = ConfigResource(kind, name)
            return admin.describe_configs([resource], include_synonyms=True, config_filter="all")[kind][name]

    def describe_configs(self, kind: str, name: str) -> dict[str, str]:
        return {key: entry["value"] for key, entry in self._described(kind, name).items()}

    def config_entries(self, kind: str, name: str) -> dict[str, Any]:
        return {
            key: {
                "value": entry["value"],
                "source": entry["config_source"],
                "type": entry["config_type"],
                "read_only": entry["read_only"],
                "sensitive": entry["is_sensitive"],
                "synonyms": [[each["name"], each["value"], each["source"]] for each in entry["synonyms"]],
            }
            for key, entry in self._described(kind, name).items()
        }

    def alter_configs(self, kind: str, name: str, set: dict[str, str], validate_only: bool = False) -> None:
        # With what the resource has already: what a caller leaves out this library asks for and sends along.
        self._alter(ConfigResource(kind, name, set), validate_only, incremental=False)

    def incremental_alter_configs(
        self, kind: str, name: str, ops: list[list[str]], validate_only: bool = False
    ) -> None:
        configs = {key: (AlterConfigOp[operation.upper()], value) for operation, key, value in ops}
        self._alter(ConfigResource(kind, name, configs), validate_only, incremental=True)

    def _alter(self, resource: ConfigResource, validate_only: bool, incremental: bool) -> None:
        with self._admin() as admin:
            results = admin.alter_configs(
                [resource], validate_only=validate_only, raise_on_unknown=False, incremental=incremental
            )
        ((answer,),) = (by_name.values() for by_name in results.values())
        if answer != "OK":
            raise told(answer)

    def list_config_resources(self, kinds: list[str]) -> list[list[str]]:
        with self._admin() as admin:
            found = admin.list_config_resources([each.upper() for each in kinds])
        return sorted([kind.upper(), name] for kind, names in found.items() for name in names)

    def create_partitions(self, topic: str, total: int) -> None:
        with self._admin() as admin:
            admin.create_partitions({topic: total})

    def delete_records(self, topic: str, partition: int, offset: int) -> int:
        at = TopicPartition(topic, partition)
        with self._admin() as admin:
            return admin.delete_records({at: offset})[at]["low_watermark"]

    def list_offsets(self, topic: str, partition: int, at: str, timestamp: int = 0) -> dict[str, Any]:
        asked = TopicPartition(topic, partition)
        spec = timestamp if at == "timestamp" else OffsetSpec[at.upper().replace("-", "_")]
        with self._admin() as admin:
            found = admin.list_partition_offsets({asked: spec})[asked]
        return {"offset": found.offset, "timestamp": found.timestamp, "leader_epoch": found.leader_epoch}

    def describe_log_dirs(self, topic: str) -> list[dict[str, Any]]:
        with self._admin() as admin:
            found = admin.describe_log_dirs()
        return [directory_json(each, topic) for broker in found for each in broker["log_dirs"]]

    def describe_producers(self, topic: str, partition: int) -> list[dict[str, Any]]:
        asked = TopicPartition(topic, partition)
        with self._admin() as admin:
            found = admin.describe_producers([asked])[asked]
        return [
            {
                "epoch": each.producer_epoch,
                "last_sequence": each.last_sequence,
                "coordinator_epoch": each.coordinator_epoch,
                "txn_start_offset": each.current_transaction_start_offset,
            }
            for each in found.active_producers
        ]

    def list_groups(self) -> list[dict[str, str]]:
        with self._admin() as admin:
            found = admin.list_groups()
        return [{"group": each["group_id"], "state": state_name(each["group_state"])} for each in found]

    def describe_group(self, group: str) -> dict[str, Any]:
        with self._admin() as admin:
            found = admin.describe_groups([group])[group]
        if found["error"] is not None:
            raise told(found["error"])
        return {
            "state": state_name(found["group_state"]),
            "assignor": found["protocol_data"],
            "members": [
                {
                    "client_id": each["client_id"],
                    "instance_id": each["group_instance_id"],
                    "partitions": sorted(
                        [listed["topic"], number]
                        for listed in (each["member_assignment"] or {"assigned_partitions": []})["assigned_partitions"]
                        for number in listed["partitions"]
                    ),
                }
                for each in found["members"]
            ],
        }

    def group_offsets(self, group: str) -> list[list[Any]]:
        with self._admin() as admin:
            found = admin.list_group_offsets(group)[group]
        return sorted([at.topic, at.partition, committed.offset] for at, committed in found.items())

    def delete_group(self, group: str) -> None:
        with self._admin() as admin:
            result = admin.delete_groups([group])[group]
        if result != "OK":
            raise getattr(kafka.errors, result)

    def delete_offsets(self, group: str, topic: str, partition: int) -> None:
        at = TopicPartition(topic, partition)
        with self._admin() as admin:
            error = admin.delete_group_offsets(group, [at])[at]
        if error.errno:
            raise error


def told(words: str) -> DriverError:
    """Some answers are the text of an error: its number and what the broker said."""
    code = re.match(r"\[Error (-?\d+)\]", words)
    return DriverError(for_code(int(code[1])).message if code else "CLIENT_ERROR", words)


def directory_json(directory: dict[str, Any], topic: str) -> dict[str, Any]:
    partitions = [
        [topic, one["partition_index"], one["partition_size"], one["offset_lag"], one["is_future_key"]]
        for each in directory["topics"]
        if each["name"] == topic
        for one in each["partitions"]
    ]
    return {
        "error": for_code(directory["error_code"]).message if directory["error_code"] else "",
        "partitions": partitions,
        "volume_known": directory["total_bytes"] > 0 and directory["usable_bytes"] > 0,
    }
