"""The admin functions of aiokafka: raw answers for the most part, whose error codes nobody looks at but the caller."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code

from .pure_python import state_name

# No log directories, no incremental changes, no group that is deleted, no ids of topics.
CAPABILITIES = [
    "create_topic",
    "delete_topic",
    "metadata",
    "describe_cluster",
    "describe_configs",
    "config_entries",
    "alter_configs",
    "create_partitions",
    "delete_records",
    "describe_group",
    "group_offsets",
    "list_groups",
]

SOURCES = {
    1: "DYNAMIC_TOPIC_CONFIG",
    2: "DYNAMIC_BROKER_CONFIG",
    3: "DYNAMIC_DEFAULT_BROKER_CONFIG",
    4: "STATIC_BROKER_CONFIG",
    5: "DEFAULT_CONFIG",
}


def with_admin(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """An operation with an admin client of its own, which keeps nothing over restarts of the broker."""

    @functools.wraps(function)
    def operation(self: "AdminFunctions", **args: Any) -> Any:
        async def run() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await admin.start()
            try:
                return await function(admin, **args)
            finally:
                await admin.close()

        return self._run(run())

    return operation


def check_code(code: int, message: str | None = None) -> None:
    if code:
        raise for_code(code)(message or "")


class AdminFunctions:
    """Mixed into the driver, which knows the broker's address and runs coroutines."""

    _bootstrap: str
    _run: Callable[[Coroutine[Any, Any, Any]], Any]

    @with_admin
    async def create_topic(
        admin: AIOKafkaAdminClient, name: str, partitions: int, configs: dict[str, str], replication_factor: int = 1
    ) -> None:
        topic = NewTopic(name, partitions, replication_factor, topic_configs=configs)
        for _, code, message in (await admin.create_topics([topic])).topic_errors:
            check_code(code, message)

    @with_admin
    async def delete_topic(admin: AIOKafkaAdminClient, name: str) -> None:
        for _, code in (await admin.delete_topics([name])).topic_error_codes:
            check_code(code)

    @with_admin
    async def metadata(admin: AIOKafkaAdminClient, topic: str | None = None) -> dict[str, Any]:
        cluster = await admin.describe_cluster()
        topics = {}
        for each in await admin.describe_topics(None if topic is None else [topic]):
            if each["error_code"] == 0:
                topics[each["topic"]] = [
                    {"partition": one["partition"], "leader": one["leader"], "replicas": one["replicas"]}
                    for one in sorted(each["partitions"], key=lambda one: one["partition"])
                ]
        brokers = [{"id": each["node_id"], "host": each["host"], "port": each["port"]} for each in cluster["brokers"]]
        return {"brokers": brokers, "topics": topics}

    @with_admin
    async def describe_cluster(admin: AIOKafkaAdminClient) -> dict[str, Any]:
        found = await admin.describe_cluster()
        return {"cluster_id": found["cluster_id"], "nodes": [each["node_id"] for each in found["brokers"]]}

    @with_admin
    async def describe_configs(admin: AIOKafkaAdminClient, kind: str, name: str) -> dict[str, str]:
        return {key: value for key, value, *_ in await described(admin, kind, name)}

    @with_admin
    async def config_entries(admin: AIOKafkaAdminClient, kind: str, name: str) -> dict[str, Any]:
        return {
            key: {
                "value": value,
                "source": SOURCES.get(source, str(source)),
                "read_only": read_only,
                "sensitive": sensitive,
                "synonyms": [[name, value, SOURCES.get(source, str(source))] for name, value, source in synonyms],
            }
            for key, value, read_only, source, sensitive, synonyms in await described(admin, kind, name)
        }

    @with_admin
    async def alter_configs(admin: AIOKafkaAdminClient, kind: str, name: str, set: dict[str, str]) -> None:
        for answer in await admin.alter_configs([ConfigResource(kind, name, set)]):
            for code, message, *_ in answer.resources:
                check_code(code, message)

    @with_admin
    async def create_partitions(admin: AIOKafkaAdminClient, topic: str, total: int) -> None:
        await admin.create_partitions({topic: NewPartitions(total)})

    @with_admin
    async def delete_records(admin: AIOKafkaAdminClient, topic: str, partition: int, offset: int) -> int:
        at = TopicPartition(topic, partition)
        return (await admin.delete_records({at: RecordsToDelete(offset)}))[at]

    @with_admin
    async def describe_group(admin: AIOKafkaAdminClient, group: str) -> dict[str, Any]:
        (answer,) = await admin.describe_consumer_groups([group])
        ((code, _, state, _, assignor, members, *_),) = answer.groups
        check_code(code)
        return {
            "state": state_name(state),
            "assignor": assignor,
            "members": [
                # The versions of the protocol this library speaks know no static members.
                {"client_id": client, "instance_id": None, "partitions": assigned(assignment)}
                for _, client, _, _, assignment in members
            ],
        }

    @with_admin
    async def list_groups(admin: AIOKafkaAdminClient) -> list[dict[str, str]]:
        return [{"group": group, "type": kind} for group, kind in await admin.list_consumer_groups()]

    @with_admin
    async def group_offsets(admin: AIOKafkaAdminClient, group: str) -> list[list[Any]]:
        found = await admin.list_consumer_group_offsets(group)
        return sorted([at.topic, at.partition, committed.offset] for at, committed in found.items())


async def described(admin: AIOKafkaAdminClient, kind: str, name: str) -> list[Any]:
    (answer,) = await admin.describe_configs([ConfigResource(kind, name)], include_synonyms=True)
    ((code, message, _, _, entries),) = answer.resources
    check_code(code, message)
    return entries


def assigned(assignment: bytes) -> list[list[Any]]:
    if not assignment:
        return []
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return sorted([each.topic, each.partition] for each in decoded.partitions())
