"""Wrong requests about groups, offsets, configurations and the cluster. Apache Kafka's answers are recorded."""

import base64
from typing import Any

from .case import Case, Request
from .record_cases import one

PROTOCOL_METADATA = base64.b64encode(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00").decode("ascii")
RANGE = [{"name": "range", "metadata": PROTOCOL_METADATA}]
ASSIGNMENT = base64.b64encode(b"compat").decode("ascii")
CAPTURE_MEMBER = {"$member": ("memberId",)}

# Members that join and are asked about in the same case; a session long enough for any machine.
SESSION_MS = 60_000


def find(version: int, key: str, key_type: int = 0, keys: list[str] | None = None) -> Request:
    if version >= 4:
        body: dict[str, Any] = {"keyType": key_type, "coordinatorKeys": [key] if keys is None else keys}
    elif version >= 1:
        body = {"key": key, "keyType": key_type}
    else:
        body = {"key": key}
    return Request("FIND_COORDINATOR", version, body)


FIND_COORDINATOR = [
    *[one(f"find-coordinator-group-v{version}", find(version, "$group")) for version in (0, 1, 3, 4, 6)],
    one("find-coordinator-several", find(4, "", keys=["$group", "$group/-2"])),
    one("find-coordinator-none", find(4, "", keys=[])),
    *[one(f"find-coordinator-empty-group-v{version}", find(version, "")) for version in (2, 4)],
    *[one(f"find-coordinator-type-9-v{version}", find(version, "$group", 9)) for version in (2, 4)],
    one("find-coordinator-type-minus-1", find(4, "$group", -1)),
    one("find-coordinator-share-before-its-version", find(5, "$group/:AAAAAAAAAAAAAAAAAAAAAA:0", 2)),
]


def join(version: int, group: str = "$group", **fields: Any) -> Request:
    body: dict[str, Any] = {
        "groupId": group,
        "sessionTimeoutMs": SESSION_MS,
        "memberId": "",
        "protocolType": "consumer",
        "protocols": RANGE,
    }
    if version >= 1:
        body["rebalanceTimeoutMs"] = SESSION_MS
    if version >= 5:
        body["groupInstanceId"] = None
    if version >= 8:
        body["reason"] = None
    return Request("JOIN_GROUP", version, {**body, **fields}, capture=CAPTURE_MEMBER)


def sync(version: int, generation: int = 1, member: str = "$member", group: str = "$group", **fields: Any) -> Request:
    body: dict[str, Any] = {
        "groupId": group,
        "generationId": generation,
        "memberId": member,
        "assignments": [{"memberId": member, "assignment": ASSIGNMENT}],
    }
    if version >= 3:
        body["groupInstanceId"] = None
    if version >= 5:
        body |= {"protocolType": "consumer", "protocolName": "range"}
    return Request("SYNC_GROUP", version, {**body, **fields})


def heartbeat(version: int, generation: int = 1, member: str = "$member", group: str = "$group") -> Request:
    body: dict[str, Any] = {"groupId": group, "generationId": generation, "memberId": member}
    if version >= 3:
        body["groupInstanceId"] = None
    return Request("HEARTBEAT", version, body)


def leave(version: int, member: str = "$member", group: str = "$group", instance: str | None = None) -> Request:
    if version <= 2:
        return Request("LEAVE_GROUP", version, {"groupId": group, "memberId": member})
    identity: dict[str, Any] = {"memberId": member, "groupInstanceId": instance}
    if version >= 5:
        identity["reason"] = None
    return Request("LEAVE_GROUP", version, {"groupId": group, "members": [identity]})


JOINED = (join(3), sync(2))

GROUPS = [
    # A member of its own in each version up to 3; from 4 the first answer only hands out the member id.
    *[one(f"join-v{version}", join(version)) for version in (0, 2, 3)],
    *[
        one(f"join-member-id-required-v{version}", join(version), join(version, memberId="$member"))
        for version in (4, 5, 7, 9)
    ],
    one("join-empty-group", join(5, "")),
    one("join-short-session", join(5, sessionTimeoutMs=1)),
    one("join-long-session", join(5, sessionTimeoutMs=2**31 - 1)),
    one("join-unknown-member", join(5, memberId="nobody")),
    one("join-no-protocols", join(5, protocols=[])),
    one("join-no-protocol-type", join(5, protocolType="")),
    one("join-other-protocol-type", *JOINED, join(3, protocolType="connect")),
    one("join-other-protocols", *JOINED, join(3, protocols=[{"name": "other", "metadata": PROTOCOL_METADATA}])),
    one("join-static", join(5, groupInstanceId="one"), sync(3, groupInstanceId="one")),
    one("join-static-empty-instance", join(5, groupInstanceId="")),
    one("join-static-unknown-member", join(5, groupInstanceId="one", memberId="nobody")),
    one("join-and-sync", *JOINED, heartbeat(2), leave(1), heartbeat(2)),
    one("sync-unknown-group", sync(3, member="nobody")),
    one("sync-empty-group", sync(3, member="nobody", group="")),
    one("sync-wrong-generation", join(3), sync(3, 7)),
    one("sync-wrong-member", join(3), sync(3, member="nobody")),
    one("sync-wrong-protocol", join(3), sync(5, protocolName="other")),
    one("sync-wrong-protocol-type", join(3), sync(5, protocolType="other")),
    one("sync-without-assignment", join(3), sync(3, assignments=[])),
    one("sync-twice", *JOINED, sync(2, assignments=[])),
    *[one(f"heartbeat-unknown-group-v{version}", heartbeat(version, member="nobody")) for version in (0, 3, 4)],
    one("heartbeat-empty-group", heartbeat(3, member="nobody", group="")),
    one("heartbeat-wrong-generation", *JOINED, heartbeat(3, 9)),
    one("heartbeat-negative-generation", *JOINED, heartbeat(3, -1)),
    one("heartbeat-wrong-member", *JOINED, heartbeat(3, member="nobody")),
    one("heartbeat-before-sync", join(3), heartbeat(3)),
    *[one(f"leave-unknown-group-v{version}", leave(version, "nobody")) for version in (0, 2, 3, 5)],
    one("leave-empty-group", leave(3, "nobody", "")),
    one("leave-wrong-member", *JOINED, leave(4, "nobody")),
    one("leave-unknown-instance", *JOINED, leave(4, "", instance="nobody")),
    one("leave-nobody", Request("LEAVE_GROUP", 4, {"groupId": "$group", "members": []})),
    one("leave", *JOINED, leave(4), leave(4)),
]


def commit(version: int, topic: str = "$topic", partition: int = 0, **fields: Any) -> Request:
    committed: dict[str, Any] = {"partitionIndex": partition, "committedOffset": 5, "committedMetadata": ""}
    if version >= 6:
        committed["committedLeaderEpoch"] = -1
    if 2 <= version <= 4:
        fields.setdefault("retentionTimeMs", -1)
    committed |= fields.pop("partition_fields", {})
    named_by = {"topicId": topic if topic != "$topic" else "$topic_id"} if version >= 10 else {"name": topic}
    body = {
        "groupId": "$group",
        "generationIdOrMemberEpoch": -1,
        "memberId": "",
        "topics": [{**named_by, "partitions": [committed]}],
    }
    if version >= 7:
        body["groupInstanceId"] = None
    return Request("OFFSET_COMMIT", version, {**body, **fields})


def offsets(version: int, group: str = "$group", topic: str = "$topic", **fields: Any) -> Request:
    if version >= 10:
        asked: Any = [{"topicId": "$topic_id" if topic == "$topic" else topic, "partitionIndexes": [0]}]
    else:
        asked = [{"name": topic, "partitionIndexes": [0]}]
    if version <= 7:
        body: dict[str, Any] = {"groupId": group, "topics": asked}
    else:
        described: dict[str, Any] = {"groupId": group, "topics": asked}
        if version >= 9:
            described |= {"memberId": None, "memberEpoch": -1}
        body = {"groups": [described]}
    if version >= 7:
        body["requireStable"] = False
    return Request("OFFSET_FETCH", version, {**body, **fields})


OFFSETS = [
    *[one(f"commit-without-members-v{version}", commit(version), offsets(5)) for version in (2, 4, 6, 8, 9, 10)],
    one("commit-empty-group", commit(8, groupId="")),
    one("commit-unknown-topic", commit(8, "$absent")),
    one("commit-unknown-id", commit(10, "c2VsZG9tLXNlZW4taWQtMQ")),
    one("commit-unknown-partition", commit(8, partition=77)),
    one("commit-generation-of-no-group", commit(8, generationIdOrMemberEpoch=5, memberId="nobody")),
    one("commit-member-of-no-group", commit(8, memberId="nobody")),
    one("commit-wrong-generation", *JOINED, commit(8, generationIdOrMemberEpoch=5, memberId="$member")),
    one("commit-wrong-member", *JOINED, commit(8, generationIdOrMemberEpoch=1, memberId="nobody")),
    one("commit-simple-beside-members", *JOINED, commit(8)),
    one("commit-of-a-member", *JOINED, commit(8, generationIdOrMemberEpoch=1, memberId="$member"), offsets(5)),
    one("commit-before-sync", join(3), commit(8, generationIdOrMemberEpoch=1, memberId="$member")),
    one("commit-metadata-too-long", commit(8, partition_fields={"committedMetadata": "m" * 5000})),
    one("commit-null-metadata", commit(8, partition_fields={"committedMetadata": None}), offsets(5)),
    one("commit-negative-offset", commit(8, partition_fields={"committedOffset": -1}), offsets(5)),
    one("commit-nothing", commit(8, topics=[])),
    *[one(f"offsets-of-unknown-group-v{version}", offsets(version, "$group/-x")) for version in (1, 3, 5, 7, 8, 9, 10)],
    one("offsets-of-empty-group", offsets(8, "")),
    one("offsets-of-unknown-topic", offsets(8, topic="$absent")),
    one("offsets-of-unknown-id", offsets(10, topic="c2VsZG9tLXNlZW4taWQtMQ")),
    one("offsets-all", commit(8), Request("OFFSET_FETCH", 5, {"groupId": "$group", "topics": None})),
    one(
        "offsets-all-v8",
        commit(8),
        Request("OFFSET_FETCH", 8, {"groups": [{"groupId": "$group", "topics": None}], "requireStable": True}),
    ),
    one("offsets-no-groups", Request("OFFSET_FETCH", 8, {"groups": [], "requireStable": False})),
    one(
        "offsets-wrong-member-epoch",
        Request(
            "OFFSET_FETCH",
            9,
            {
                "groups": [{"groupId": "$group", "memberId": "nobody", "memberEpoch": 5, "topics": None}],
                "requireStable": False,
            },
        ),
    ),
]


def describe(version: int, *groups: str) -> Request:
    body: dict[str, Any] = {"groups": list(groups)}
    if version >= 3:
        body["includeAuthorizedOperations"] = False
    return Request("DESCRIBE_GROUPS", version, body, view=without_client)


def without_client(body: Any) -> Any:
    """The client's address is the machine's; the rest of a member is compared."""
    if isinstance(body, dict):
        return {key: without_client(each) for key, each in body.items() if key != "clientHost"}
    if isinstance(body, list):
        return [without_client(each) for each in body]
    return body


def list_groups(version: int, **filters: Any) -> Request:
    body: dict[str, Any] = {}
    if version >= 4:
        body["statesFilter"] = []
    if version >= 5:
        body["typesFilter"] = []
    return Request("LIST_GROUPS", version, {**body, **filters}, only_own={"groups": "groupId"})


# A group with a member, and one that only has offsets: filters have something to choose from.
TWO_GROUPS = (*JOINED, commit(8, groupId="$group/-empty"))


ADMIN = [
    *[one(f"describe-unknown-group-v{version}", describe(version, "$group/-x")) for version in (0, 3, 5, 6)],
    one("describe-empty-group-name", describe(5, "")),
    one("describe-no-groups", describe(5)),
    one("describe-group-with-offsets-only", commit(8), describe(5, "$group")),
    one("describe-group-rebalancing", join(3), describe(5, "$group")),
    one("describe-group-stable", *JOINED, describe(5, "$group")),
    *[one(f"list-groups-v{version}", *TWO_GROUPS, list_groups(version)) for version in range(6)],
    one("list-groups-unknown-state", *TWO_GROUPS, list_groups(4, statesFilter=["NoSuchState"])),
    one("list-groups-unknown-type", *TWO_GROUPS, list_groups(5, typesFilter=["no-such-type"])),
]


def describe_configs(version: int, kind: int, name: str, keys: list[str] | None, **fields: Any) -> Request:
    body: dict[str, Any] = {
        "resources": [{"resourceType": kind, "resourceName": name, "configurationKeys": keys}],
        "includeSynonyms": True,
    }
    if version >= 3:
        body["includeDocumentation"] = False
    view = fields.pop("view", without_own_keys)
    return Request("DESCRIBE_CONFIGS", version, {**body, **fields}, view=view)


def names_and_values(body: Any) -> Any:
    """Apache Kafka sets min.insync.replicas for the whole cluster when it formats one: its source is no matter."""
    (result,) = without_own_keys(body)["results"]
    return {"errorCode": result["errorCode"], "values": {each["name"]: each["value"] for each in result["configs"]}}


def without_own_keys(body: Any) -> Any:
    """Keys only Ottla has are beside the comparison."""
    for result in body["results"]:
        result["configs"] = [each for each in result["configs"] if not each["name"].startswith("ottla.")]
    return body


TOPIC_KEYS = ["retention.ms", "cleanup.policy", "max.message.bytes", "compression.type"]

CLUSTER = [
    *[
        one(f"describe-topic-configs-v{version}", describe_configs(version, 2, "$configured", TOPIC_KEYS))
        for version in (1, 3, 4)
    ],
    one("describe-configs-unknown-topic", describe_configs(4, 2, "$absent", None)),
    one("describe-configs-invalid-topic", describe_configs(4, 2, "no/slash", None)),
    one("describe-configs-empty-topic", describe_configs(4, 2, "", None)),
    one("describe-configs-unknown-key", describe_configs(4, 2, "$topic", ["no.such.key"])),
    one("describe-configs-no-keys", describe_configs(4, 2, "$topic", [], view=names_and_values)),
    one("describe-configs-unknown-broker", describe_configs(4, 4, "77", ["log.retention.ms"])),
    one("describe-configs-broker-not-a-number", describe_configs(4, 4, "one", ["log.retention.ms"])),
    one("describe-configs-type-99", describe_configs(4, 99, "x", None)),
    one("describe-configs-type-0", describe_configs(4, 0, "x", None)),
    one("describe-configs-nothing", describe_configs(4, 2, "$topic", None, resources=[])),
    one("describe-configs-without-synonyms", describe_configs(4, 2, "$configured", TOPIC_KEYS, includeSynonyms=False)),
    one("describe-cluster", Request("DESCRIBE_CLUSTER", 0, {"includeClusterAuthorizedOperations": False})),
    one(
        "describe-cluster-v2",
        Request(
            "DESCRIBE_CLUSTER",
            2,
            {"includeClusterAuthorizedOperations": False, "endpointType": 1, "includeFencedBrokers": True},
        ),
    ),
    *[
        one(
            f"describe-cluster-endpoint-type-{kind}",
            Request("DESCRIBE_CLUSTER", 1, {"includeClusterAuthorizedOperations": False, "endpointType": kind}),
        )
        for kind in (2, 7)
    ],
]

GROUP_CASES: list[Case] = [*FIND_COORDINATOR, *GROUPS, *OFFSETS, *ADMIN, *CLUSTER]
