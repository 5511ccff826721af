"""Wrong requests about versions, topics and records. What Apache Kafka answers is recorded."""

import re
from collections.abc import Mapping
from typing import Any

from ..failure import CannotRun
from ..paths import REPOSITORY
from .batch import Batch
from .case import PRODUCER_ID, UNKNOWN_UUID, ZERO_UUID, Case, Records, Request

YEAR_2100_MS = 4_102_444_800_000
# Rows of docs/compat.md, a table made from the code: key, name, Kafka's versions, `-`.
ABSENT_API = re.compile(r"^\| (\d+) \| \w+ \| [\d-]+ \| - \|", re.MULTILINE)


def records(*batches: Batch | bytes) -> Records:
    return Records(batches)


def one(name: str, *requests: Request) -> Case:
    return Case(name, requests)


# ApiVersions

API_VERSIONS_3 = {"clientSoftwareName": "compat", "clientSoftwareVersion": "1"}


def ranges(body: Mapping[str, Any]) -> Any:
    """Features and their epochs are a matter of the cluster: the APIs are compared, every one."""
    advertised = {str(each["apiKey"]): [each["minVersion"], each["maxVersion"]] for each in body["apiKeys"]}
    return {"errorCode": body["errorCode"], "ranges": advertised}


def error_only(body: Mapping[str, Any]) -> Any:
    return {"errorCode": body["errorCode"]}


def without_absent_apis(recorded: list[Any]) -> list[Any]:
    """Kafka's ranges without the APIs that docs/compat.md says are not served: no other is missing, and none is there
    that Kafka does not advertise."""
    absent = set(ABSENT_API.findall((REPOSITORY / "docs" / "compat.md").read_text(encoding="utf-8")))
    if not absent:
        raise CannotRun("docs/compat.md names no API that is not served: its table is not found, or this is done with")
    (answer,) = recorded
    left = {key: each for key, each in answer["body"]["ranges"].items() if key not in absent}
    return [{"body": {**answer["body"], "ranges": left}}]


def advertised(name: str, version: int, body: Mapping[str, Any]) -> Case:
    return Case(name, (Request("API_VERSIONS", version, body, view=ranges),), without_absent_apis)


API_VERSIONS = [
    *[
        advertised(f"api-versions-ranges-v{version}", version, body)
        for version, body in ((0, {}), (2, {}), (3, API_VERSIONS_3), (4, API_VERSIONS_3))
    ],
    *[
        # An answer to a version nobody knows is one of version 0, with the range that is known.
        one(
            f"api-versions-v{version}",
            Request("API_VERSIONS", 3, API_VERSIONS_3, header_version_as=version, answer_version=0),
        )
        for version in (6, 127, 32767)
    ],
    one(
        "api-versions-bad-software-name",
        Request("API_VERSIONS", 3, {**API_VERSIONS_3, "clientSoftwareName": "not valid!"}, view=ranges),
    ),
    one(
        "api-versions-empty-software-name",
        Request("API_VERSIONS", 3, {**API_VERSIONS_3, "clientSoftwareName": ""}, view=ranges),
    ),
    one("api-versions-negative", Request("API_VERSIONS", 0, {}, header_version_as=-1, answer_version=0)),
]

# Metadata


def metadata(version: int, *topics: Mapping[str, Any], **fields: Any) -> Request:
    body: dict[str, Any] = {"topics": list(topics)}
    if version >= 4:
        body["allowAutoTopicCreation"] = False
    if 8 <= version <= 10:
        body["includeClusterAuthorizedOperations"] = False
    if version >= 8:
        body["includeTopicAuthorizedOperations"] = False
    return Request("METADATA", version, {**body, **fields})


def named(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "topicId": ZERO_UUID} if version >= 10 else {"name": name}


METADATA = [
    *[
        one(f"metadata-unknown-topic-v{version}", metadata(version, named("$absent", version)))
        for version in (4, 7, 9, 10, 12, 13)
    ],
    *[
        one(f"metadata-invalid-name-v{version}", metadata(version, named("no/slash", version)))
        for version in (4, 9, 12)
    ],
    one("metadata-empty-name", metadata(9, named("", 9))),
    one("metadata-long-name", metadata(9, named("n" * 250, 9))),
    one("metadata-unknown-id", metadata(12, {"name": None, "topicId": UNKNOWN_UUID})),
    one("metadata-id-before-its-version", metadata(10, {"name": "$topic", "topicId": UNKNOWN_UUID})),
    one("metadata-no-name-before-its-version", metadata(11, {"name": None, "topicId": "$topic_id"})),
    one("metadata-known-topic", metadata(12, named("$topic", 12))),
    one("metadata-known-id", metadata(12, {"name": None, "topicId": "$topic_id"})),
    one("metadata-same-topic-twice", metadata(12, named("$topic", 12), named("$topic", 12))),
    one("metadata-version-99", Request("METADATA", 12, metadata(12).body, header_version_as=99)),
    one("metadata-truncated", Request("METADATA", 12, metadata(12, named("$topic", 12)).body, truncate=3)),
    one("metadata-trailing-bytes", Request("METADATA", 12, metadata(12, named("$topic", 12)).body, append="0102")),
    # The first byte of the body is the length of the array of topics, plus one.
    one(
        "metadata-array-too-long",
        Request("METADATA", 12, metadata(12, named("$topic", 12)).body, patch=[(0, "ffffffff07")]),
    ),
    one(
        "metadata-array-2-31-in-v4",
        Request("METADATA", 4, metadata(4, named("$topic", 4)).body, patch=[(0, "7fffffff")]),
    ),
    # Any negative length is read as null: all topics.
    one(
        "metadata-array-minus-2",
        Request(
            "METADATA",
            4,
            metadata(4, named("$topic", 4)).body,
            patch=[(0, "fffffffe")],
            view=lambda body: {"more than one topic": len(body["topics"]) > 1},
        ),
    ),
]

# Produce


def produce(version: int, what: Any, topic: str = "$topic", partition: int = 0, acks: int = -1, **more: Any) -> Request:
    named_by = {"topicId": "$topic_id" if topic == "$topic" else topic} if version >= 13 else {"name": topic}
    body = {
        "transactionalId": None,
        "acks": acks,
        "timeoutMs": 10000,
        "topicData": [{**named_by, "partitionData": [{"index": partition, "records": what}]}],
    }
    return Request("PRODUCE", version, {**body, **more.pop("body", {})}, **more)


GOOD = Batch()
THREE = Batch(values=(b"a", b"b", b"c"))

PRODUCE = [
    *[one(f"produce-good-v{version}", produce(version, records(GOOD))) for version in (3, 5, 8, 9, 12, 13)],
    *[one(f"produce-unknown-topic-v{version}", produce(version, records(GOOD), "$absent")) for version in (3, 9, 12)],
    one("produce-unknown-id", produce(13, records(GOOD), UNKNOWN_UUID)),
    one("produce-unknown-partition", produce(9, records(GOOD), partition=77)),
    one("produce-negative-partition", produce(9, records(GOOD), partition=-1)),
    one("produce-acks-2", produce(9, records(GOOD), acks=2)),
    one("produce-acks-minus-2", produce(9, records(GOOD), acks=-2)),
    *[one(f"produce-wrong-crc-v{version}", produce(version, records(GOOD.but(crc=1)))) for version in (3, 9, 13)],
    one("produce-magic-1", produce(9, records(GOOD.but(magic=1)))),
    one("produce-magic-0", produce(9, records(GOOD.but(magic=0)))),
    one("produce-magic-3", produce(9, records(GOOD.but(magic=3)))),
    one("produce-null-records", produce(9, None)),
    one("produce-empty-records", produce(9, "")),
    one("produce-two-batches", produce(9, records(GOOD, GOOD))),
    one("produce-batch-cut-short", produce(9, records(GOOD.encode()[:-3]))),
    one("produce-header-cut-short", produce(9, records(GOOD.encode()[:40]))),
    one("produce-seven-bytes", produce(9, records(b"\x00" * 7))),
    one("produce-trailing-bytes", produce(9, records(GOOD.encode() + b"\x01\x02\x03"))),
    one("produce-length-too-small", produce(9, records(GOOD.but(batch_length=5)))),
    one("produce-length-negative", produce(9, records(GOOD.but(batch_length=-1)))),
    one("produce-length-huge", produce(9, records(GOOD.but(batch_length=2**31 - 1)))),
    one("produce-count-too-large", produce(9, records(THREE.but(record_count=4)))),
    one("produce-count-too-small", produce(9, records(THREE.but(record_count=2)))),
    one("produce-count-zero", produce(9, records(THREE.but(record_count=0)))),
    one("produce-count-negative", produce(9, records(THREE.but(record_count=-1)))),
    one("produce-count-huge", produce(9, records(THREE.but(record_count=2**31 - 1)))),
    one("produce-last-delta-wrong", produce(9, records(THREE.but(last_offset_delta=7)))),
    one("produce-no-record-at-all", produce(9, records(GOOD.but(values=(), last_offset_delta=-1)))),
    one("produce-base-offset-ignored", produce(9, records(GOOD.but(base_offset=5)))),
    one("produce-garbage-payload", produce(9, records(GOOD.but(payload=b"\xff" * 20)))),
    one("produce-garbage-gzip", produce(9, records(GOOD.but(attributes=1, payload=b"\xff" * 20)))),
    one("produce-gzip", produce(9, records(THREE.but(attributes=1)))),
    one("produce-codec-5", produce(9, records(GOOD.but(attributes=5)))),
    one("produce-zstd-before-its-version", produce(6, records(GOOD.but(attributes=4, payload=b"x" * 20)))),
    one("produce-control-batch", produce(9, records(GOOD.but(attributes=0x20)))),
    one("produce-log-append-time-batch", produce(9, records(GOOD.but(attributes=0x08)))),
    one("produce-unused-attributes", produce(9, records(GOOD.but(attributes=0x4000)))),
    one("produce-transactional-without-producer", produce(9, records(GOOD.but(attributes=0x10)))),
    one("produce-far-future", produce(9, records(GOOD.but(timestamp=YEAR_2100_MS)))),
    one("produce-negative-timestamp", produce(9, records(GOOD.but(timestamp=-5)))),
    one("produce-too-large", produce(9, records(GOOD.but(values=(b"x" * 1_100_000,))))),
    one("produce-null-key-to-compacted", produce(9, records(THREE.but(key=None)), "$compacted")),
    one("produce-empty-key-to-compacted", produce(9, records(THREE.but(key=b"")), "$compacted")),
    one(
        "produce-to-both-a-good-and-a-bad-partition",
        Request(
            "PRODUCE",
            9,
            {
                "transactionalId": None,
                "acks": -1,
                "timeoutMs": 10000,
                "topicData": [
                    {
                        "name": "$topic",
                        "partitionData": [
                            {"index": 0, "records": records(GOOD)},
                            {"index": 1, "records": records(GOOD.but(crc=9))},
                            {"index": 55, "records": records(GOOD)},
                        ],
                    }
                ],
            },
        ),
    ),
    # No answer is owed for acks=0: an error closes the connection, a good batch leaves it open.
    one(
        "produce-acks-0-good",
        produce(9, records(GOOD), acks=0, no_answer=True),
        Request("API_VERSIONS", 0, {}, view=error_only),
    ),
    one(
        "produce-acks-0-bad",
        produce(9, records(GOOD.but(crc=1)), acks=0, no_answer=True),
        Request("API_VERSIONS", 0, {}, view=error_only),
    ),
    one("produce-version-2", Request("PRODUCE", 3, produce(3, records(GOOD)).body, header_version_as=2)),
    one("produce-version-14", Request("PRODUCE", 12, produce(12, records(GOOD)).body, header_version_as=14)),
]

# Idempotent producers

INIT = Request(
    "INIT_PRODUCER_ID",
    4,
    {"transactionalId": None, "transactionTimeoutMs": 1000, "producerId": -1, "producerEpoch": -1},
    capture={"$producer_id": ("producerId",)},
)


def sequenced(sequence: int, epoch: int = 0, values: tuple[bytes, ...] = (b"v",)) -> Request:
    batch = Batch(values=values, producer_id=PRODUCER_ID, producer_epoch=epoch, base_sequence=sequence)
    return produce(9, records(batch), "$sequenced")


def init_producer(version: int, **fields: Any) -> Request:
    body: dict[str, Any] = {"transactionalId": None, "transactionTimeoutMs": 1000}
    if version >= 3:
        body |= {"producerId": -1, "producerEpoch": -1}
    return Request("INIT_PRODUCER_ID", version, {**body, **fields})


IDEMPOTENCE = [
    one("idempotent-in-order", INIT, sequenced(0), sequenced(1), sequenced(2)),
    one("idempotent-duplicate", INIT, sequenced(0), sequenced(1), sequenced(0), sequenced(1)),
    one("idempotent-gap", INIT, sequenced(0), sequenced(5)),
    one("idempotent-first-not-zero", INIT, sequenced(3)),
    one("idempotent-old-epoch", INIT, sequenced(0, epoch=1), sequenced(0, epoch=0)),
    one("idempotent-new-epoch-not-from-zero", INIT, sequenced(0), sequenced(5, epoch=1)),
    one("idempotent-duplicate-of-other-size", INIT, sequenced(0, values=(b"a", b"b")), sequenced(0)),
    one(
        "idempotent-duplicate-out-of-the-window",
        INIT,
        *[sequenced(sequence) for sequence in range(7)],
        sequenced(0),
    ),
    one("idempotent-sequence-wraps", INIT, sequenced(2**31 - 1)),
    one("idempotent-without-epoch", INIT, sequenced(0, epoch=-1)),
    one("idempotent-without-sequence", INIT, sequenced(-1)),
    *[one(f"init-producer-id-v{version}", init_producer(version)) for version in range(6)],
    one("init-producer-id-empty-transactional-id", init_producer(4, transactionalId="")),
    one("init-producer-id-only-epoch", init_producer(4, producerEpoch=3)),
    one("init-producer-id-only-id", init_producer(4, producerId=3)),
    one("init-producer-id-unknown-id-and-epoch", init_producer(4, producerId=123456, producerEpoch=3)),
]

# Fetch


def fetch(version: int, offset: int = 0, topic: str = "$topic", partition: int = 0, **fields: Any) -> Request:
    asked: dict[str, Any] = {"partition": partition, "fetchOffset": offset, "partitionMaxBytes": 1000000}
    if version >= 9:
        asked["currentLeaderEpoch"] = fields.pop("epoch", -1)
    if version >= 12:
        asked["lastFetchedEpoch"] = -1
    if version >= 5:
        asked["logStartOffset"] = -1
    named_by = {"topicId": "$topic_id" if topic == "$topic" else topic} if version >= 13 else {"topic": topic}
    body: dict[str, Any] = {"maxWaitMs": 100, "minBytes": 0, "maxBytes": 10000000, "isolationLevel": 0}
    if version <= 14:
        body["replicaId"] = -1
    if version >= 7:
        body |= {"sessionId": 0, "sessionEpoch": -1, "forgottenTopicsData": []}
    if version >= 11:
        body["rackId"] = ""
    body["topics"] = [{**named_by, "partitions": [asked]}]
    return Request("FETCH", version, {**body, **fields}, view=without_sizes)


def without_sizes(body: Any) -> Any:
    """What was produced by other cases is not this case's matter: records, offsets and session ids left out."""
    if isinstance(body, dict):
        skipped = ("recordsSizeInBytes", "records", "highWatermark", "lastStableOffset", "sessionId")
        return {key: without_sizes(each) for key, each in body.items() if key not in skipped}
    if isinstance(body, list):
        return [without_sizes(each) for each in body]
    return body


FETCH = [
    *[one(f"fetch-empty-v{version}", fetch(version, topic="$empty")) for version in (4, 5, 7, 9, 11, 12)],
    *[one(f"fetch-good-v{version}", fetch(version)) for version in (13, 16, 17, 18)],
    *[one(f"fetch-unknown-topic-v{version}", fetch(version, topic="$absent")) for version in (4, 7, 11, 12)],
    one("fetch-unknown-id", fetch(13, topic=UNKNOWN_UUID)),
    one("fetch-unknown-partition", fetch(12, partition=88)),
    one("fetch-beyond-the-end", fetch(12, offset=10_000_000)),
    one("fetch-negative-offset", fetch(12, offset=-5)),
    one("fetch-unknown-leader-epoch", fetch(12, epoch=1000)),
    one("fetch-unknown-session", fetch(12, sessionId=424242, sessionEpoch=3)),
    one("fetch-session-epoch-without-session", fetch(12, sessionId=0, sessionEpoch=5)),
    one("fetch-new-session", fetch(12, sessionId=0, sessionEpoch=0)),
    one("fetch-no-topics", fetch(12, topics=[])),
    one("fetch-session-without-topics", fetch(12, sessionId=0, sessionEpoch=0, topics=[])),
    one("fetch-version-3", Request("FETCH", 4, fetch(4).body, header_version_as=3)),
    one("fetch-version-19", Request("FETCH", 12, fetch(12).body, header_version_as=19)),
]

# ListOffsets


def list_offsets(version: int, timestamp: int, topic: str = "$three", partition: int = 0, **fields: Any) -> Request:
    asked: dict[str, Any] = {"partitionIndex": partition, "timestamp": timestamp}
    if version >= 4:
        asked["currentLeaderEpoch"] = fields.pop("epoch", -1)
    body: dict[str, Any] = {"replicaId": -1, "topics": [{"name": topic, "partitions": [asked]}]}
    if version >= 2:
        body["isolationLevel"] = 0
    if version >= 10:
        body["timeoutMs"] = 5000
    return Request("LIST_OFFSETS", version, {**body, **fields}, view=without_timestamps)


def without_timestamps(body: Any) -> Any:
    if isinstance(body, dict):
        return {
            key: ("a time" if key == "timestamp" and each >= 0 else without_timestamps(each))
            for key, each in body.items()
        }
    if isinstance(body, list):
        return [without_timestamps(each) for each in body]
    return body


TWICE: dict[str, Any] = {
    "topics": [
        {
            "name": "$three",
            "partitions": [{"partitionIndex": 0, "timestamp": -1, "currentLeaderEpoch": -1} for _ in range(2)],
        }
    ]
}

LIST_OFFSETS = [
    *[one(f"list-offsets-latest-v{version}", list_offsets(version, -1)) for version in (1, 2, 4, 6, 7, 9, 10, 11)],
    *[one(f"list-offsets-earliest-v{version}", list_offsets(version, -2)) for version in (1, 6, 11)],
    *[one(f"list-offsets-max-timestamp-v{version}", list_offsets(version, -3)) for version in (6, 7, 11)],
    *[one(f"list-offsets-earliest-local-v{version}", list_offsets(version, -4)) for version in (7, 8, 11)],
    *[one(f"list-offsets-latest-tiered-v{version}", list_offsets(version, -5)) for version in (8, 9, 11)],
    *[one(f"list-offsets-earliest-pending-v{version}", list_offsets(version, -6)) for version in (10, 11)],
    one("list-offsets-minus-7", list_offsets(11, -7)),
    one("list-offsets-by-time", list_offsets(7, 0)),
    one("list-offsets-by-future-time", list_offsets(7, YEAR_2100_MS)),
    one("list-offsets-unknown-topic", list_offsets(7, -1, "$absent")),
    one("list-offsets-unknown-partition", list_offsets(7, -1, partition=9)),
    one("list-offsets-unknown-epoch", list_offsets(7, -1, epoch=1000)),
    one("list-offsets-partition-twice", list_offsets(7, -1, **TWICE)),
    one("list-offsets-of-empty-max-timestamp", list_offsets(7, -3, "$empty")),
]

# Topics


def create(version: int, *topics: Mapping[str, Any], **fields: Any) -> Request:
    return Request(
        "CREATE_TOPICS", version, {"topics": list(topics), "timeoutMs": 10000, "validateOnly": False, **fields}
    )


def topic(name: str, partitions: int = 1, replicas: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "numPartitions": partitions,
        "replicationFactor": replicas,
        "assignments": [],
        "configs": [],
        **fields,
    }


def config(name: str, value: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value}]


def without_configs(body: Any) -> Any:
    return {**body, "topics": [{key: each for key, each in one.items() if key != "configs"} for one in body["topics"]]}


def created(name: str, version: int, made: Mapping[str, Any], **fields: Any) -> Case:
    request = create(version, made, **fields)
    return one(name, Request(request.api, request.version, request.body, view=without_configs))


TOPICS = [
    *[created(f"create-good-v{version}", version, topic(f"$new/-{version}")) for version in range(2, 8)],
    created("create-existing", 7, topic("$topic")),
    *[
        created(f"create-name-{label}", 7, topic(name))
        for label, name in (
            ("with-slash", "no/slash"),
            ("empty", ""),
            ("dot", "."),
            ("dots", ".."),
            ("too-long", "n" * 250),
            ("unicode", "ünicode"),
        )
    ],
    created("create-name-collides", 7, topic("$collides")),
    created("create-partitions-0", 7, topic("$new", partitions=0)),
    created("create-partitions-minus-2", 7, topic("$new", partitions=-2)),
    created("create-partitions-default", 7, topic("$new/-default", partitions=-1, replicas=-1)),
    created("create-partitions-too-many", 7, topic("$new", partitions=2_000_000)),
    created("create-replicas-0", 7, topic("$new", replicas=0)),
    created("create-replicas-3", 7, topic("$new", replicas=3)),
    created("create-unknown-config", 7, topic("$new", configs=config("no.such.key", "1"))),
    created("create-bad-config", 7, topic("$new", configs=config("retention.ms", "soon"))),
    created("create-config-below-bound", 7, topic("$new", configs=config("segment.bytes", "1"))),
    created("create-null-config", 7, topic("$new", configs=config("retention.ms", None))),
    created("create-validate-only", 7, topic("$new/-never"), validateOnly=True),
    created("create-validate-only-existing", 7, topic("$topic"), validateOnly=True),
    created(
        "create-assigned",
        7,
        topic("$new/-assigned", -1, -1, assignments=[{"partitionIndex": 0, "brokerIds": [1]}]),
    ),
    created(
        "create-assigned-to-unknown-broker",
        7,
        topic("$new", -1, -1, assignments=[{"partitionIndex": 0, "brokerIds": [99]}]),
    ),
    created(
        "create-assigned-and-counted",
        7,
        topic("$new", 1, 1, assignments=[{"partitionIndex": 0, "brokerIds": [1]}]),
    ),
    created(
        "create-assigned-with-a-hole",
        7,
        topic("$new", -1, -1, assignments=[{"partitionIndex": 1, "brokerIds": [1]}]),
    ),
    created(
        "create-assigned-same-broker-twice",
        7,
        topic("$new", -1, -1, assignments=[{"partitionIndex": 0, "brokerIds": [1, 1]}]),
    ),
    one("create-twice-in-one-request", create(7, topic("$new"), topic("$new"))),
    one("create-nothing", create(7)),
    one("create-version-1", Request("CREATE_TOPICS", 2, create(2, topic("$new")).body, header_version_as=1)),
    *[
        one(
            f"delete-unknown-v{version}",
            Request("DELETE_TOPICS", version, {"topicNames": ["$absent"], "timeoutMs": 5000}),
        )
        for version in (1, 4, 5)
    ],
    *[
        one(
            f"delete-{label}",
            Request("DELETE_TOPICS", 6, {"topics": [{"name": name, "topicId": topic_id}], "timeoutMs": 5000}),
        )
        for label, name, topic_id in (
            ("unknown-name-v6", "$absent", ZERO_UUID),
            ("unknown-id", None, UNKNOWN_UUID),
            ("by-name-and-id", "$topic", "$topic_id"),
            ("by-neither", None, ZERO_UUID),
            ("invalid-name", "no/slash", ZERO_UUID),
        )
    ],
    one("delete-nothing", Request("DELETE_TOPICS", 6, {"topics": [], "timeoutMs": 5000})),
]

RECORD_CASES = [*API_VERSIONS, *METADATA, *PRODUCE, *IDEMPOTENCE, *FETCH, *LIST_OFFSETS, *TOPICS]
