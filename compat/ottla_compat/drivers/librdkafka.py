"""What confluent-kafka-python and kcat share: librdkafka's names for settings and errors."""

from collections.abc import Mapping

# Kafka's names of the errors that librdkafka calls otherwise, by code.
KAFKA_ERROR_NAMES = {
    -1: "UNKNOWN_SERVER_ERROR",
    1: "OFFSET_OUT_OF_RANGE",
    2: "CORRUPT_MESSAGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    6: "NOT_LEADER_OR_FOLLOWER",
    10: "MESSAGE_TOO_LARGE",
    15: "COORDINATOR_NOT_AVAILABLE",
    16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION",
    19: "NOT_ENOUGH_REPLICAS",
    22: "ILLEGAL_GENERATION",
    23: "INCONSISTENT_GROUP_PROTOCOL",
    24: "INVALID_GROUP_ID",
    25: "UNKNOWN_MEMBER_ID",
    26: "INVALID_SESSION_TIMEOUT",
    27: "REBALANCE_IN_PROGRESS",
    32: "INVALID_TIMESTAMP",
    35: "UNSUPPORTED_VERSION",
    36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS",
    38: "INVALID_REPLICATION_FACTOR",
    40: "INVALID_CONFIG",
    42: "INVALID_REQUEST",
    82: "FENCED_INSTANCE_ID",
    87: "INVALID_RECORD",
    -188: "UNKNOWN_TOPIC_OR_PARTITION",  # _UNKNOWN_TOPIC: the library learnt it from metadata
    -190: "UNKNOWN_TOPIC_OR_PARTITION",  # _UNKNOWN_PARTITION, likewise
    -192: "DELIVERY_TIMEOUT",  # _MSG_TIMED_OUT
    -140: "NO_OFFSET_AND_NO_RESET",  # _AUTO_OFFSET_RESET
}

SETTING_NAMES = {
    "fetch.max.wait.ms": "fetch.wait.max.ms",
    "max.request.size": "message.max.bytes",
    "max.block.ms": None,  # no such notion: delivery.timeout.ms covers it
}

CLIENT_DEFAULTS = {
    # Noise off: connections to a broker that is being restarted are expected to fail.
    "log.connection.close": "false",
    "reconnect.backoff.ms": "20",
    "reconnect.backoff.max.ms": "200",
}


def settings(config: Mapping[str, str]) -> dict[str, str]:
    """Scenario settings (the Java clients' names) under librdkafka's names."""
    renamed = dict(CLIENT_DEFAULTS)
    for key, value in config.items():
        name = SETTING_NAMES.get(key, key)
        if name is not None:
            renamed[name] = "error" if (key, value) == ("auto.offset.reset", "none") else value
    return renamed


def kafka_error_name(code: int, own_name: str) -> str:
    return KAFKA_ERROR_NAMES.get(code, own_name)
