"""A record as scenarios write it and drivers report it."""

import base64
from dataclasses import dataclass
from typing import Any

Header = tuple[str, bytes | None]


@dataclass(frozen=True)
class Record:
    value: bytes | None
    key: bytes | None = None
    headers: tuple[Header, ...] = ()
    partition: int = 0
    timestamp: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "key": encode_bytes(self.key),
            "value": encode_bytes(self.value),
            "headers": [[name, encode_bytes(value)] for name, value in self.headers],
            "partition": self.partition,
            "timestamp": self.timestamp,
        }


@dataclass(frozen=True)
class Received:
    """A record as a consumer got it; `arrived_ns` is the machine's monotonic clock."""

    partition: int
    offset: int
    timestamp_type: str | None
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    arrived_ns: int = 0

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "Received":
        return Received(
            partition=fields["partition"],
            offset=fields["offset"],
            timestamp_type=fields.get("timestamp_type"),
            timestamp=fields.get("timestamp"),
            key=decode_bytes(fields["key"]),
            value=decode_bytes(fields["value"]),
            headers=tuple((name, decode_bytes(value)) for name, value in fields["headers"]),
            arrived_ns=fields.get("arrived_ns", 0),
        )


def encode_bytes(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def decode_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
