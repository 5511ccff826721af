"""The admin functions that the suite `admin` compares, by confluent-kafka."""

from collections.abc import Callable
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    OffsetSpec,
    ResourceType,
)

SECONDS = 30.0

CAPABILITIES = [
    "alter_configs",
    "config_entries",
    "create_partitions",
    "delete_group",
    "delete_records",
    "group_offsets",
    "incremental_alter_configs",
    "list_offsets",
]


class AdminFunctions:
    def __init__(self, admin: Callable[[], AdminClient]):
        self._admin = admin

    def operations(self) -> dict[str, Callable[..., Any]]:
        return {name: getattr(self, name) for name in CAPABILITIES}

    def create_partitions(self, topic: str, total: int) -> None:
        self._admin().create_partitions([NewPartitions(topic, total)])[topic].result(SECONDS)

    def delete_records(self, topic: str, partition: int, offset: int) -> int:
        before = TopicPartition(topic, partition, offset)
        (answer,) = self._admin().delete_records([before]).values()
        return answer.result(SECONDS).low_watermark

    def config_entries(self, kind: str, name: str) -> dict[str, Any]:
        resource = ConfigResource(ResourceType[kind.upper()], name)
        entries = self._admin().describe_configs([resource])[resource].result(SECONDS)
        return {key: entry_json(entry) for key, entry in entries.items()}

    def alter_configs(self, kind: str, name: str, set: dict[str, str], validate_only: bool = False) -> None:
        resource = ConfigResource(ResourceType[kind.upper()], name, set_config=set)
        self._admin().alter_configs([resource], validate_only=validate_only)[resource].result(SECONDS)

    def incremental_alter_configs(
        self, kind: str, name: str, ops: list[list[str | None]], validate_only: bool = False
    ) -> None:
        entries = [
            ConfigEntry(str(key), value, incremental_operation=AlterConfigOpType[str(operation).upper()])
            for operation, key, value in ops
        ]
        resource = ConfigResource(ResourceType[kind.upper()], name, incremental_configs=entries)
        self._admin().incremental_alter_configs([resource], validate_only=validate_only)[resource].result(SECONDS)

    def delete_group(self, group: str) -> None:
        self._admin().delete_consumer_groups([group])[group].result(SECONDS)

    def list_offsets(self, topic: str, partition: int, at: str, timestamp: int = 0) -> dict[str, Any]:
        specs = {
            "earliest": OffsetSpec.earliest,
            "latest": OffsetSpec.latest,
            "max-timestamp": OffsetSpec.max_timestamp,
            "timestamp": lambda: OffsetSpec.for_timestamp(timestamp),
        }
        asked = TopicPartition(topic, partition)
        found = self._admin().list_offsets({asked: specs[at]()})[asked].result(SECONDS)
        return {"offset": found.offset, "timestamp": found.timestamp, "leader_epoch": found.leader_epoch}

    def group_offsets(self, group: str) -> list[list[Any]]:
        asked = self._admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
        return sorted([each.topic, each.partition, each.offset] for each in asked.result(SECONDS).topic_partitions)


def entry_json(entry: ConfigEntry) -> dict[str, Any]:
    return {
        "value": entry.value,
        "source": ConfigSource(entry.source).name,
        "read_only": entry.is_read_only,
        "sensitive": entry.is_sensitive,
        "synonyms": [[each.name, each.value, ConfigSource(each.source).name] for each in entry.synonyms.values()],
    }
