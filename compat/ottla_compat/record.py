"""A record as scenarios write it and drivers report it."""

import base64
from dataclasses import dataclass
from typing import Any, Optional

Header = tuple[str, Optional[bytes]]


@dataclass(frozen=True)
class Record:
    value: Optional[bytes]
    key: Optional[bytes] = None
    headers: tuple[Header, ...] = ()
    partition: int = 0
    timestamp: Optional[int] = None

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
    timestamp_type: Optional[str]
    timestamp: Optional[int]
    key: Optional[bytes]
    value: Optional[bytes]
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


def encode_bytes(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else base64.b64encode(value).decode("ascii")


def decode_bytes(text: Optional[str]) -> Optional[bytes]:
    return None if text is None else base64.b64decode(text)
