"""What the drivers of kafka-python and aiokafka share: both libraries have one origin, and most names in common."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..record import encode_bytes
from .kept import truth

Setting = tuple[str, Callable[[str], Any]] | None


def producer_settings(**own: Setting) -> dict[str, Setting]:
    """The library's names of settings, `own` those it has other names for: the dots of the key are underscores there."""
    return {
        "compression.type": ("compression_type", lambda value: None if value == "none" else value),
        "acks": ("acks", lambda value: "all" if value == "all" else int(value)),
        "enable.idempotence": ("enable_idempotence", truth),
        "linger.ms": ("linger_ms", int),
        "max.request.size": ("max_request_size", int),
        **{key.replace("_", "."): setting for key, setting in own.items()},
    }


def consumer_settings(assignors: Mapping[str, type], **own: Setting) -> dict[str, Setting]:
    return {
        "auto.offset.reset": ("auto_offset_reset", str),
        "enable.auto.commit": ("enable_auto_commit", truth),
        "fetch.max.wait.ms": ("fetch_max_wait_ms", int),
        "fetch.min.bytes": ("fetch_min_bytes", int),
        "max.partition.fetch.bytes": ("max_partition_fetch_bytes", int),
        "heartbeat.interval.ms": ("heartbeat_interval_ms", int),
        "session.timeout.ms": ("session_timeout_ms", int),
        "group.instance.id": ("group_instance_id", str),
        "isolation.level": ("isolation_level", str),
        "check.crcs": ("check_crcs", truth),
        "partition.assignment.strategy": (
            "partition_assignment_strategy",
            lambda value: [assignors[each] for each in value.split(",")],
        ),
        **{key.replace("_", "."): setting for key, setting in own.items()},
    }


def error_name(error: Exception) -> str:
    """Kafka's name of the error, or the client's."""
    name = type(error).__name__
    return "MESSAGE_TOO_LARGE" if name == "MessageSizeTooLargeError" else getattr(error, "message", None) or name


def state_name(state: str) -> str:
    """As Java spells it: PreparingRebalance is PREPARING_REBALANCE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", state).upper()


def record_json(record: Any) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_type": {0: "CreateTime", 1: "LogAppendTime"}.get(record.timestamp_type),
        "timestamp": record.timestamp,
        "key": encode_bytes(record.key),
        "value": encode_bytes(record.value),
        "headers": [[name, encode_bytes(value)] for name, value in record.headers],
        "arrived_ns": time.monotonic_ns(),
    }


class Held:
    """Mixed into the drivers: what is told of consumers and loads that stay."""

    _consumers: Mapping[str, Any]
    _loads: Mapping[str, Any]

    def consumer_state(self, id: str) -> dict[str, Any]:
        return self._consumers[id].kept.state()

    def consumer_take(self, id: str) -> dict[str, Any]:
        return self._consumers[id].kept.take()

    def load_state(self, id: str) -> dict[str, Any]:
        return self._loads[id].paced.state()
