"""Record batches written by hand, so that each field can be wrong."""

import base64
import gzip
import struct
import time
from dataclasses import dataclass, replace
from typing import Any

from ..failure import check

CRC_POLYNOMIAL = 0x82F63B78


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ CRC_POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    """Zigzag, seven bits a byte."""
    encoded = (value << 1) ^ (value >> 63)
    out = bytearray()
    while encoded & ~0x7F:
        out.append((encoded & 0x7F) | 0x80)
        encoded >>= 7
    out.append(encoded)
    return bytes(out)


def record(offset_delta: int, key: bytes | None, value: bytes | None, headers: bytes = b"\x00") -> bytes:
    body = b"\x00" + varint(0) + varint(offset_delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += headers
    return varint(len(body)) + body


@dataclass(frozen=True)
class Batch:
    """A record batch of format 2; what is None is computed as it ought to be."""

    values: tuple[bytes | None, ...] = (b"value",)
    key: bytes | None = b"key"
    base_offset: int = 0
    leader_epoch: int = -1
    magic: int = 2
    attributes: int = 0
    timestamp: int | None = None
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    last_offset_delta: int | None = None
    record_count: int | None = None
    batch_length: int | None = None
    crc: int | None = None
    payload: bytes | None = None

    def but(self, **changes: Any) -> "Batch":
        return replace(self, **changes)

    def encode(self) -> bytes:
        records = b"".join(record(delta, self.key, value) for delta, value in enumerate(self.values))
        if self.attributes & 7 == 1:
            records = gzip.compress(records, mtime=0)
        if self.payload is not None:
            records = self.payload
        timestamp = int(time.time() * 1000) if self.timestamp is None else self.timestamp
        last_delta = len(self.values) - 1 if self.last_offset_delta is None else self.last_offset_delta
        count = len(self.values) if self.record_count is None else self.record_count
        checked = (
            struct.pack(
                ">hiqqqhii",
                self.attributes,
                last_delta,
                timestamp,
                timestamp,
                self.producer_id,
                self.producer_epoch,
                self.base_sequence,
                count,
            )
            + records
        )
        crc = crc32c(checked) if self.crc is None else self.crc
        length = 9 + len(checked) if self.batch_length is None else self.batch_length
        head = struct.pack(">qiibI", self.base_offset, length, self.leader_epoch, self.magic, crc)
        return head + checked


def check_batches(records: bytes) -> int:
    """How many whole batches there are; fails at one whose checksum is wrong. A fetch may cut the last one short."""
    position = count = 0
    while position + 61 <= len(records):
        length, _, magic, crc = struct.unpack_from(">iibI", records, position + 8)
        end = position + 12 + length
        check(length >= 49 and magic == 2, f"byte {position} begins no batch: length {length}, magic {magic}")
        if end > len(records):
            break
        check(crc32c(records[position + 21 : end]) == crc, f"the batch at byte {position} has a wrong checksum")
        position = end
        count += 1
    return count


def base64_of(*batches: Batch | bytes) -> str:
    joined = b"".join(each if isinstance(each, bytes) else each.encode() for each in batches)
    return base64.b64encode(joined).decode("ascii")
