"""Wrong requests to the admin APIs: topics, records, configurations, log directories, groups. Apache Kafka's answers are
recorded.

A case whose name begins with one of OWN_TOPIC changes a topic, and gets one of its own as `$mine`, of two partitions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .case import Case, Request
from .group_cases import JOINED, TWO_GROUPS, commit, describe, list_groups, offsets, without_own_keys
from .record_cases import one

OWN_TOPIC = ("create-partitions", "delete-records", "alter-", "incremental-", "offset-delete", "describe-producers")

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3

# CreatePartitions


def grow(version: int, *topics: Mapping[str, Any], **fields: Any) -> Request:
    asked = [{"assignments": None, **topic} for topic in topics]
    return Request(
        "CREATE_PARTITIONS", version, {"topics": asked, "timeoutMs": 20_000, "validateOnly": False, **fields}
    )


def to(count: int, name: str = "$mine", assignments: Sequence[Sequence[int]] | None = None) -> dict[str, Any]:
    listed = None if assignments is None else [{"brokerIds": list(each)} for each in assignments]
    return {"name": name, "count": count, "assignments": listed}


CREATE_PARTITIONS = [
    *[one(f"create-partitions-v{version}", grow(version, to(3))) for version in range(4)],
    *[one(f"create-partitions-same-count-v{version}", grow(version, to(2))) for version in (0, 3)],
    one("create-partitions-fewer", grow(3, to(1))),
    one("create-partitions-zero", grow(3, to(0))),
    one("create-partitions-negative", grow(3, to(-1))),
    one("create-partitions-unknown-topic", grow(3, to(3, "$absent"))),
    one("create-partitions-unknown-topic-v0", grow(0, to(3, "$absent"))),
    one("create-partitions-invalid-name", grow(3, to(3, "no/slash"))),
    one("create-partitions-empty-name", grow(3, to(3, ""))),
    one("create-partitions-topic-twice", grow(3, to(3), to(4))),
    one("create-partitions-nothing", grow(3)),
    one("create-partitions-assigned", grow(3, to(4, assignments=[[1], [1]]))),
    one("create-partitions-too-few-assignments", grow(3, to(4, assignments=[[1]]))),
    one("create-partitions-too-many-assignments", grow(3, to(3, assignments=[[1], [1]]))),
    one("create-partitions-no-assignments", grow(3, to(3, assignments=[]))),
    one("create-partitions-assigned-to-nobody", grow(3, to(3, assignments=[[]]))),
    one("create-partitions-unknown-broker", grow(3, to(3, assignments=[[77]]))),
    one("create-partitions-negative-broker", grow(3, to(3, assignments=[[-1]]))),
    one("create-partitions-broker-twice", grow(3, to(3, assignments=[[1, 1]]))),
    one("create-partitions-other-replication", grow(3, to(3, assignments=[[1, 2]]))),
    one("create-partitions-validate-only", grow(3, to(3), validateOnly=True), grow(3, to(3))),
    one("create-partitions-validate-only-fewer", grow(3, to(1), validateOnly=True)),
    one("create-partitions-good-and-bad", grow(3, to(3), to(3, "$absent"))),
    one("create-partitions-of-internal-topic", grow(3, to(1, "__consumer_offsets"))),
]

# DeleteRecords


def trim(version: int, offset: int, name: str = "$three", partition: int = 0, **fields: Any) -> Request:
    body = {
        "topics": [{"name": name, "partitions": [{"partitionIndex": partition, "offset": offset}]}],
        "timeoutMs": 20_000,
    }
    return Request("DELETE_RECORDS", version, {**body, **fields})


DELETE_RECORDS = [
    *[one(f"delete-records-v{version}", trim(version, 0, "$mine")) for version in range(3)],
    one("delete-records-to-the-end-of-an-empty-partition", trim(2, -1, "$mine")),
    one("delete-records-beyond-the-end", trim(2, 4, "$mine")),
    *[one(f"delete-records-offset-minus-2-v{version}", trim(version, -2, "$mine")) for version in (0, 2)],
    *[one(f"delete-records-unknown-topic-v{version}", trim(version, 0, "$absent")) for version in (0, 1, 2)],
    one("delete-records-unknown-partition", trim(2, 0, "$mine", 77)),
    one("delete-records-negative-partition", trim(2, 0, "$mine", -1)),
    one("delete-records-invalid-name", trim(2, 0, "no/slash")),
    one("delete-records-empty-name", trim(2, 0, "")),
    one("delete-records-of-internal-topic", trim(2, 0, "__consumer_offsets")),
    one("delete-records-nothing", trim(2, 0, topics=[])),
    one("delete-records-no-partitions", trim(2, 0, topics=[{"name": "$mine", "partitions": []}])),
]

# AlterConfigs and IncrementalAlterConfigs


def changed(kind: int, name: str, configs: Sequence[Any]) -> dict[str, Any]:
    return {"resourceType": kind, "resourceName": name, "configs": list(configs)}


def alter(version: int, *resources: Any, validate_only: bool = False) -> Request:
    return Request("ALTER_CONFIGS", version, {"resources": list(resources), "validateOnly": validate_only})


def value(name: str, text: str | None) -> dict[str, Any]:
    return {"name": name, "value": text}


def mine(*configs: Any) -> dict[str, Any]:
    return changed(TOPIC, "$mine", configs)


def step(version: int, *resources: Any, validate_only: bool = False) -> Request:
    return Request("INCREMENTAL_ALTER_CONFIGS", version, {"resources": list(resources), "validateOnly": validate_only})


def op(kind: int, name: str, text: str | None) -> dict[str, Any]:
    return {"name": name, "configOperation": kind, "value": text}


def shown(name: str, *keys: str, kind: int = TOPIC) -> Request:
    """What the resource has after a change."""
    return Request(
        "DESCRIBE_CONFIGS",
        4,
        {
            "resources": [{"resourceType": kind, "resourceName": name, "configurationKeys": list(keys)}],
            "includeSynonyms": False,
            "includeDocumentation": False,
        },
        view=values_only,
    )


def values_only(body: Any) -> Any:
    (result,) = without_own_keys(body)["results"]
    return {
        "errorCode": result["errorCode"],
        "values": {each["name"]: [each["value"], each["configSource"]] for each in result["configs"]},
    }


BAD_TOPIC_VALUES = {
    "retention.ms": ("soon", "-2", "9223372036854775808", "", None),
    "cleanup.policy": ("burn", "delete,burn", "", None),
    "compression.type": ("rar", "Gzip"),
    "compression.gzip.level": ("0", "10"),
    "compression.lz4.level": ("0", "18"),
    "compression.zstd.level": ("-131073", "23"),
    "max.message.bytes": ("-1", "2147483648"),
    "message.timestamp.type": ("Whenever",),
    "min.cleanable.dirty.ratio": ("1.5", "-0.1", "half"),
    "min.insync.replicas": ("0", "-1"),
    "segment.bytes": ("13", "1048575"),
    "segment.ms": ("0",),
    "segment.index.bytes": ("3",),
    "index.interval.bytes": ("-1",),
    "flush.messages": ("0",),
    "file.delete.delay.ms": ("-1",),
    "unclean.leader.election.enable": ("yes", "TRUE"),
    "preallocate": ("1",),
    "local.retention.ms": ("-3",),
}

def spelled(text: str | None) -> str:
    """A value in a case's name, which names topics too."""
    return "null" if text is None else text.replace(",", "-and-") or "empty"


ALTER_CONFIGS = [
    *[
        one(
            f"alter-topic-v{version}",
            alter(version, mine(value("retention.ms", "1234"))),
            shown("$mine", "retention.ms", "segment.bytes"),
        )
        for version in range(3)
    ],
    one(
        "alter-replaces-what-was-set",
        alter(2, mine(value("retention.ms", "1234"))),
        alter(2, mine(value("segment.bytes", "2000000"))),
        shown("$mine", "retention.ms", "segment.bytes"),
    ),
    one("alter-bad-value", alter(2, mine(value("retention.ms", "soon"))), shown("$mine", "retention.ms")),
    one("alter-null-value", alter(2, mine(value("retention.ms", None)))),
    one("alter-unknown-key", alter(2, mine(value("no.such.key", "1")))),
    one("alter-empty-key", alter(2, mine(value("", "1")))),
    one("alter-unknown-topic", alter(2, changed(TOPIC, "$absent", [value("retention.ms", "1")]))),
    one("alter-invalid-topic", alter(2, changed(TOPIC, "no/slash", [value("retention.ms", "1")]))),
    one("alter-empty-topic", alter(2, changed(TOPIC, "", [value("retention.ms", "1")]))),
    one("alter-unknown-broker", alter(2, changed(BROKER, "77", [value("log.retention.ms", "1000000")]))),
    one("alter-broker-not-a-number", alter(2, changed(BROKER, "one", [value("log.retention.ms", "1000000")]))),
    one("alter-broker-read-only", alter(2, changed(BROKER, "1", [value("num.partitions", "3")]))),
    one("alter-type-0", alter(2, changed(0, "x", [value("a", "b")]))),
    one("alter-type-99", alter(2, changed(99, "x", [value("a", "b")]))),
    one("alter-broker-logger", alter(2, changed(BROKER_LOGGER, "1", [value("root", "INFO")]))),
    one("alter-same-topic-twice", alter(2, mine(value("retention.ms", "1")), mine(value("retention.ms", "2")))),
    one("alter-nothing", alter(2)),
    one("alter-no-configs", alter(2, mine()), shown("$mine", "retention.ms")),
    one(
        "alter-validate-only",
        alter(2, mine(value("retention.ms", "1234")), validate_only=True),
        shown("$mine", "retention.ms"),
    ),
    one("alter-validate-only-bad-value", alter(2, mine(value("retention.ms", "soon")), validate_only=True)),
    *[
        one(
            f"incremental-set-v{version}",
            step(version, mine(op(SET, "retention.ms", "1234"))),
            shown("$mine", "retention.ms"),
        )
        for version in range(2)
    ],
    one(
        "incremental-keeps-what-was-set",
        step(1, mine(op(SET, "retention.ms", "1234"))),
        step(1, mine(op(SET, "segment.bytes", "2000000"))),
        shown("$mine", "retention.ms", "segment.bytes"),
    ),
    one(
        "incremental-delete",
        step(1, mine(op(SET, "retention.ms", "1234"))),
        step(1, mine(op(DELETE, "retention.ms", None))),
        shown("$mine", "retention.ms"),
    ),
    one("incremental-delete-what-is-not-set", step(1, mine(op(DELETE, "retention.ms", None)))),
    one("incremental-delete-with-a-value", step(1, mine(op(DELETE, "retention.ms", "5")))),
    one(
        "incremental-append",
        step(1, mine(op(APPEND, "cleanup.policy", "compact"))),
        shown("$mine", "cleanup.policy"),
    ),
    one(
        "incremental-append-what-is-there",
        step(1, mine(op(SET, "cleanup.policy", "compact"))),
        step(1, mine(op(APPEND, "cleanup.policy", "compact"))),
        shown("$mine", "cleanup.policy"),
    ),
    one(
        "incremental-subtract",
        step(1, mine(op(SET, "cleanup.policy", "compact,delete"))),
        step(1, mine(op(SUBTRACT, "cleanup.policy", "delete"))),
        shown("$mine", "cleanup.policy"),
    ),
    one("incremental-subtract-what-is-not-there", step(1, mine(op(SUBTRACT, "cleanup.policy", "compact")))),
    one(
        "incremental-subtract-everything",
        step(1, mine(op(SUBTRACT, "cleanup.policy", "delete"))),
        shown("$mine", "cleanup.policy"),
    ),
    one("incremental-append-to-a-number", step(1, mine(op(APPEND, "retention.ms", "1")))),
    one("incremental-subtract-from-a-number", step(1, mine(op(SUBTRACT, "retention.ms", "1")))),
    one("incremental-append-null", step(1, mine(op(APPEND, "cleanup.policy", None)))),
    one("incremental-append-bad-value", step(1, mine(op(APPEND, "cleanup.policy", "burn")))),
    one("incremental-operation-9", step(1, mine(op(9, "retention.ms", "1")))),
    one("incremental-operation-minus-1", step(1, mine(op(-1, "retention.ms", "1")))),
    one("incremental-key-twice", step(1, mine(op(SET, "retention.ms", "1"), op(DELETE, "retention.ms", None)))),
    one("incremental-unknown-key", step(1, mine(op(SET, "no.such.key", "1")))),
    one("incremental-delete-unknown-key", step(1, mine(op(DELETE, "no.such.key", None)))),
    one("incremental-empty-key", step(1, mine(op(SET, "", "1")))),
    one("incremental-no-configs", step(1, mine())),
    one("incremental-nothing", step(1)),
    one(
        "incremental-same-topic-twice",
        step(1, mine(op(SET, "retention.ms", "1")), mine(op(SET, "segment.bytes", "2000000"))),
    ),
    one(
        "incremental-good-and-bad-topic",
        step(1, mine(op(SET, "retention.ms", "1")), changed(TOPIC, "$absent", [op(SET, "retention.ms", "1")])),
        shown("$mine", "retention.ms"),
    ),
    one(
        "incremental-good-and-bad-key",
        step(1, mine(op(SET, "retention.ms", "1"), op(SET, "segment.bytes", "tiny"))),
        shown("$mine", "retention.ms", "segment.bytes"),
    ),
    one(
        "incremental-validate-only",
        step(1, mine(op(SET, "retention.ms", "1")), validate_only=True),
        shown("$mine", "retention.ms"),
    ),
    one("incremental-unknown-topic", step(1, changed(TOPIC, "$absent", [op(SET, "retention.ms", "1")]))),
    one("incremental-unknown-topic-v0", step(0, changed(TOPIC, "$absent", [op(SET, "retention.ms", "1")]))),
    one("incremental-invalid-topic", step(1, changed(TOPIC, "no/slash", [op(SET, "retention.ms", "1")]))),
    one("incremental-empty-topic", step(1, changed(TOPIC, "", [op(SET, "retention.ms", "1")]))),
    one("incremental-type-0", step(1, changed(0, "x", [op(SET, "a", "b")]))),
    one("incremental-type-99", step(1, changed(99, "x", [op(SET, "a", "b")]))),
    one("incremental-compression-levels", step(1, mine(op(SET, "compression.gzip.level", "9")))),
    *[
        one(f"incremental-{key}-{spelled(bad)}", step(1, mine(op(SET, key, bad))))
        for key, values in BAD_TOPIC_VALUES.items()
        for bad in values
    ],
]

# Brokers, loggers, client metrics and groups as resources


def broker(name: str, *configs: Any, **more: Any) -> Request:
    return step(1, changed(BROKER, name, configs), **more)


OTHER_CONFIGS = [
    one("broker-unknown", broker("77", op(SET, "log.retention.ms", "1000000"))),
    one("broker-not-a-number", broker("one", op(SET, "log.retention.ms", "1000000"))),
    one("broker-negative", broker("-1", op(SET, "log.retention.ms", "1000000"))),
    one("broker-unknown-key", broker("1", op(SET, "no.such.key", "1"), validate_only=True)),
    one("broker-read-only-key", broker("1", op(SET, "num.partitions", "3"))),
    one("broker-read-only-key-of-the-cluster", broker("", op(SET, "node.id", "3"))),
    one("broker-key-of-the-cluster", broker("", op(SET, "log.retention.ms", "600000000"), validate_only=True)),
    one("broker-key-of-one-broker", broker("1", op(SET, "log.retention.ms", "600000000"), validate_only=True)),
    one("broker-per-broker-key-for-the-cluster", broker("", op(SET, "listeners", "PLAINTEXT://:0"))),
    one("broker-bad-value", broker("1", op(SET, "log.retention.ms", "soon"))),
    one("broker-value-out-of-bounds", broker("1", op(SET, "num.io.threads", "0"))),
    one("broker-threads-too-many-at-once", broker("1", op(SET, "num.io.threads", "1000"))),
    one("broker-bad-codec", broker("1", op(SET, "compression.type", "rar"))),
    one("broker-append-to-a-number", broker("1", op(APPEND, "log.retention.ms", "1"))),
    one("broker-delete-what-is-not-set", broker("1", op(DELETE, "log.retention.ms", None))),
    one("broker-operation-9", broker("1", op(9, "log.retention.ms", "1"))),
    one("broker-key-twice", broker("1", op(SET, "log.retention.ms", "1"), op(SET, "log.retention.ms", "2"))),
    one("logger-unknown-broker", step(1, changed(BROKER_LOGGER, "77", [op(SET, "root", "INFO")]))),
    one("logger-bad-level", step(1, changed(BROKER_LOGGER, "1", [op(SET, "root", "LOUD")]))),
    one("logger-append", step(1, changed(BROKER_LOGGER, "1", [op(APPEND, "root", "INFO")]))),
    one("logger-unknown", step(1, changed(BROKER_LOGGER, "1", [op(SET, "no.such.logger", "INFO")]))),
    one("logger-empty-name", step(1, changed(BROKER_LOGGER, "", [op(SET, "root", "INFO")]))),
    one("client-metrics-set", step(1, changed(CLIENT_METRICS, "$new", [op(SET, "interval.ms", "60000")]))),
    one("client-metrics-unknown-key", step(1, changed(CLIENT_METRICS, "$new", [op(SET, "no.such.key", "1")]))),
    one("client-metrics-short-interval", step(1, changed(CLIENT_METRICS, "$new", [op(SET, "interval.ms", "99")]))),
    one("client-metrics-bad-match", step(1, changed(CLIENT_METRICS, "$new", [op(SET, "match", "nothing=of")]))),
    one("client-metrics-empty-name", step(1, changed(CLIENT_METRICS, "", [op(SET, "interval.ms", "60000")]))),
    one(
        "client-metrics-shown",
        step(1, changed(CLIENT_METRICS, "$new", [op(SET, "interval.ms", "60000")])),
        shown("$new", "interval.ms", "metrics", "match", kind=CLIENT_METRICS),
    ),
    one("client-metrics-describe-unknown", shown("$absent", "interval.ms", kind=CLIENT_METRICS)),
    one("group-set", step(1, changed(GROUP, "$group", [op(SET, "consumer.session.timeout.ms", "50000")]))),
    one("group-unknown-key", step(1, changed(GROUP, "$group", [op(SET, "no.such.key", "1")]))),
    one("group-session-too-short", step(1, changed(GROUP, "$group", [op(SET, "consumer.session.timeout.ms", "1")]))),
    one("group-session-too-long", step(1, changed(GROUP, "$group", [op(SET, "consumer.session.timeout.ms", "9999999")]))),
    one("group-heartbeat-not-a-number", step(1, changed(GROUP, "$group", [op(SET, "consumer.heartbeat.interval.ms", "x")]))),
    one("group-empty-name", step(1, changed(GROUP, "", [op(SET, "consumer.session.timeout.ms", "50000")]))),
    one("group-describe-unknown", shown("$absent", "consumer.session.timeout.ms", kind=GROUP)),
    one("group-describe-empty-name", shown("", "consumer.session.timeout.ms", kind=GROUP)),
    one("describe-configs-cluster-default", shown("", "log.retention.ms", kind=BROKER)),
    one("describe-configs-logger-unknown-broker", shown("77", "root", kind=BROKER_LOGGER)),
    one("describe-configs-logger-empty-name", shown("", "root", kind=BROKER_LOGGER)),
    one("describe-configs-logger-not-a-number", shown("one", "root", kind=BROKER_LOGGER)),
]

# ListConfigResources


def resources(version: int, kinds: Sequence[int] | None = None) -> Request:
    body: dict[str, Any] = {} if version == 0 else {"resourceTypes": list(kinds or [])}
    return Request("LIST_CONFIG_RESOURCES", version, body, view=kinds_only)


def kinds_only(body: Any) -> Any:
    """Which names there are depends on what ran before."""
    kinds = {each.get("resourceType", CLIENT_METRICS) for each in body["configResources"]}
    return {"errorCode": body["errorCode"], "types": sorted(kinds)}


LIST_RESOURCES = [
    one("list-config-resources-v0", step(1, changed(CLIENT_METRICS, "$new", [op(SET, "interval.ms", "60000")])), resources(0)),
    *[one(f"list-config-resources-type-{kind}", resources(1, [kind])) for kind in (TOPIC, BROKER, BROKER_LOGGER)],
    *[one(f"list-config-resources-type-{kind}", resources(1, [kind])) for kind in (0, 1, 7, 99, -1)],
    one("list-config-resources-two-types", resources(1, [TOPIC, BROKER])),
    one("list-config-resources-type-twice", resources(1, [TOPIC, TOPIC])),
    one("list-config-resources-good-and-bad", resources(1, [TOPIC, 99])),
]

# DescribeTopicPartitions


def partitions(*names: str, limit: int = 2000, cursor: Mapping[str, Any] | None = None) -> Request:
    body = {"topics": [{"name": each} for each in names], "responsePartitionLimit": limit, "cursor": cursor}
    return Request("DESCRIBE_TOPIC_PARTITIONS", 0, body, view=by_name)


def by_name(body: Any) -> Any:
    """Sorted by what a run calls them, and Kafka's -2147483648 of no asked operations left out."""
    for topic in body["topics"]:
        topic.pop("topicAuthorizedOperations", None)
    return body


def cursor(topic: str, partition: int) -> dict[str, Any]:
    return {"topicName": topic, "partitionIndex": partition}


DESCRIBE_TOPIC_PARTITIONS = [
    one("describe-topic-partitions", partitions("$topic")),
    one("describe-topic-partitions-unknown", partitions("$absent")),
    one("describe-topic-partitions-invalid", partitions("no/slash")),
    one("describe-topic-partitions-empty-name", partitions("")),
    one("describe-topic-partitions-twice", partitions("$topic", "$topic")),
    one("describe-topic-partitions-limit-1", partitions("$topic", limit=1)),
    one("describe-topic-partitions-limit-0", partitions("$topic", limit=0)),
    one("describe-topic-partitions-limit-negative", partitions("$topic", limit=-5)),
    one("describe-topic-partitions-cursor", partitions("$topic", cursor=cursor("$topic", 1))),
    one("describe-topic-partitions-cursor-at-the-end", partitions("$topic", cursor=cursor("$topic", 3))),
    one("describe-topic-partitions-cursor-beyond", partitions("$topic", cursor=cursor("$topic", 99))),
    one("describe-topic-partitions-cursor-negative", partitions("$topic", cursor=cursor("$topic", -1))),
    one("describe-topic-partitions-cursor-of-unknown", partitions("$topic", cursor=cursor("$absent", 0))),
    one("describe-topic-partitions-cursor-of-all", partitions(cursor=cursor("zzzz", 0))),
]

# DescribeLogDirs


def log_dirs(version: int, topics: Sequence[tuple[str, Sequence[int]]] | None) -> Request:
    asked = None if topics is None else [{"topic": name, "partitions": list(numbers)} for name, numbers in topics]
    return Request("DESCRIBE_LOG_DIRS", version, {"topics": asked}, view=directories)


def directories(body: Any) -> Any:
    """Paths, volumes and sizes are the machine's; a directory's topics come in no order."""
    return {
        "errorCode": body.get("errorCode"),
        "results": [
            {
                "errorCode": result["errorCode"],
                "isCordoned": result.get("isCordoned"),
                "volume": result.get("totalBytes", 1) > 0 and result.get("usableBytes", 1) > 0,
                "topics": sorted(
                    (
                        [each["name"], sorted([p["partitionIndex"], p["offsetLag"], p["isFutureKey"]] for p in each["partitions"])]
                        for each in result["topics"]
                    ),
                )
                if len(result["topics"]) <= 1
                else "several",
            }
            for result in body["results"]
        ],
    }


DESCRIBE_LOG_DIRS = [
    *[one(f"describe-log-dirs-v{version}", log_dirs(version, [("$topic", [0, 1, 2])])) for version in range(1, 6)],
    one("describe-log-dirs-all", log_dirs(5, None)),
    one("describe-log-dirs-nothing", log_dirs(5, [])),
    one("describe-log-dirs-no-partitions", log_dirs(5, [("$topic", [])])),
    one("describe-log-dirs-unknown-topic", log_dirs(5, [("$absent", [0])])),
    one("describe-log-dirs-unknown-partition", log_dirs(5, [("$topic", [77])])),
    one("describe-log-dirs-some-partitions", log_dirs(5, [("$topic", [1, 77])])),
    one("describe-log-dirs-topic-twice", log_dirs(5, [("$topic", [0]), ("$topic", [1])])),
    one("describe-log-dirs-partition-twice", log_dirs(5, [("$topic", [0, 0])])),
]

# OffsetForLeaderEpoch


def epoch(version: int, asked: int, current: int = -1, topic: str = "$three", partition: int = 0, **more: Any) -> Request:
    body: dict[str, Any] = {
        "topics": [
            {
                "topic": topic,
                "partitions": [{"partition": partition, "currentLeaderEpoch": current, "leaderEpoch": asked}],
            }
        ]
    }
    if version >= 3:
        body["replicaId"] = -1
    return Request("OFFSET_FOR_LEADER_EPOCH", version, {**body, **more})


OFFSET_FOR_LEADER_EPOCH = [
    *[one(f"leader-epoch-v{version}", epoch(version, 0)) for version in (2, 3, 4)],
    one("leader-epoch-known-current", epoch(4, 0, 0)),
    one("leader-epoch-current-too-new", epoch(4, 0, 9)),
    one("leader-epoch-asked-too-new", epoch(4, 9)),
    one("leader-epoch-asked-minus-1", epoch(4, -1)),
    one("leader-epoch-asked-minus-2", epoch(4, -2)),
    one("leader-epoch-current-minus-2", epoch(4, 0, -2)),
    one("leader-epoch-of-an-empty-partition", epoch(4, 0, topic="$empty")),
    one("leader-epoch-unknown-topic", epoch(4, 0, topic="$absent")),
    one("leader-epoch-invalid-topic", epoch(4, 0, topic="no/slash")),
    one("leader-epoch-unknown-partition", epoch(4, 0, partition=77)),
    one("leader-epoch-negative-partition", epoch(4, 0, partition=-1)),
    one("leader-epoch-nothing", epoch(4, 0, topics=[])),
    one("leader-epoch-of-a-replica", epoch(4, 0, replicaId=5)),
    one("leader-epoch-debugging-replica", epoch(4, 0, replicaId=-2)),
]

# DescribeProducers


def producers(topic: str, *numbers: int) -> Request:
    return Request("DESCRIBE_PRODUCERS", 0, {"topics": [{"name": topic, "partitionIndexes": list(numbers)}]})


DESCRIBE_PRODUCERS = [
    one("describe-producers-none", producers("$mine", 0)),
    one("describe-producers-unknown-topic", producers("$absent", 0)),
    one("describe-producers-invalid-topic", producers("no/slash", 0)),
    one("describe-producers-unknown-partition", producers("$mine", 77)),
    one("describe-producers-negative-partition", producers("$mine", -1)),
    one("describe-producers-partition-twice", producers("$mine", 0, 0)),
    one("describe-producers-no-partitions", producers("$mine")),
    one("describe-producers-nothing", Request("DESCRIBE_PRODUCERS", 0, {"topics": []})),
]

# Groups: OffsetDelete, DeleteGroups, filters


def forget(topic: str = "$mine", partition: int = 0, group: str = "$group", **more: Any) -> Request:
    body = {"groupId": group, "topics": [{"name": topic, "partitions": [{"partitionIndex": partition}]}]}
    return Request("OFFSET_DELETE", 0, {**body, **more})


def delete_groups(version: int, *names: str) -> Request:
    return Request("DELETE_GROUPS", version, {"groupsNames": list(names)})


GROUPS = [
    one("offset-delete", commit(8, "$mine"), forget(), offsets(8, topic="$mine")),
    one("offset-delete-not-committed", commit(8, "$mine"), forget(partition=1)),
    one("offset-delete-unknown-group", forget(group="$group/-x")),
    one("offset-delete-empty-group", forget(group="")),
    one("offset-delete-unknown-topic", commit(8, "$mine"), forget("$absent")),
    one("offset-delete-unknown-partition", commit(8, "$mine"), forget(partition=77)),
    one("offset-delete-negative-partition", commit(8, "$mine"), forget(partition=-1)),
    one("offset-delete-nothing", commit(8, "$mine"), forget(topics=[])),
    one("offset-delete-beside-members", *JOINED, commit(8, "$mine", generationIdOrMemberEpoch=1, memberId="$member"), forget()),
    *[one(f"delete-groups-unknown-v{version}", delete_groups(version, "$group/-x")) for version in range(4)],
    one("delete-groups-empty-name", delete_groups(2, "")),
    one("delete-groups-nothing", delete_groups(2)),
    one("delete-groups-with-members", *JOINED, delete_groups(2, "$group")),
    one("delete-groups-with-offsets", commit(8), delete_groups(2, "$group"), offsets(8), describe(5, "$group")),
    one("delete-groups-twice-in-one", commit(8), delete_groups(2, "$group", "$group")),
    one("delete-groups-twice", commit(8), delete_groups(2, "$group"), delete_groups(2, "$group")),
    one("delete-groups-good-and-bad", commit(8), delete_groups(2, "$group", "$group/-x")),
    one("describe-groups-twice-in-one", commit(8), describe(5, "$group", "$group")),
    one("describe-groups-good-and-bad", commit(8), describe(6, "$group", "$group/-x")),
    *[
        one(f"list-groups-states-{'-'.join(states) or 'none'}", *TWO_GROUPS, list_groups(5, statesFilter=states))
        for states in (["Stable"], ["stable"], ["Empty"], ["Empty", "Dead"], [""], ["Stable", "NoSuchState"])
    ],
    *[
        one(f"list-groups-types-{'-'.join(types) or 'none'}", *TWO_GROUPS, list_groups(5, typesFilter=types))
        for types in (["classic"], ["CLASSIC"], ["consumer", "share"], ["streams"], [""], ["classic", "no-such-type"])
    ],
    one("list-groups-states-and-types", *TWO_GROUPS, list_groups(5, statesFilter=["Empty"], typesFilter=["classic"])),
]

ADMIN_CASES: list[Case] = [
    *CREATE_PARTITIONS,
    *DELETE_RECORDS,
    *ALTER_CONFIGS,
    *OTHER_CONFIGS,
    *LIST_RESOURCES,
    *DESCRIBE_TOPIC_PARTITIONS,
    *DESCRIBE_LOG_DIRS,
    *OFFSET_FOR_LEADER_EPOCH,
    *DESCRIBE_PRODUCERS,
    *GROUPS,
]
