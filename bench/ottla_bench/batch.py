"""A record batch, written by hand: what the harness itself produces is one record at a time."""

import struct

_POLYNOMIAL = 0x82F63B78
# Behind base offset, length, leader epoch, magic and checksum.
_CHECKED_FROM = 21


def _table() -> list[int]:
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (_POLYNOMIAL if remainder & 1 else 0)
        table.append(remainder)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = (remainder >> 8) ^ _TABLE[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF


def _varint(value: int) -> bytes:
    """Zigzag, seven bits a byte."""
    left = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)


def one_record(value: bytes, timestamp_ms: int) -> bytes:
    """A batch of one record without a key, nobody's."""
    content = b"\0" + _varint(0) + _varint(0) + _varint(-1) + _varint(len(value)) + value + _varint(0)
    record = _varint(len(content)) + content
    checked = struct.pack(">hiqqqhii", 0, 0, timestamp_ms, timestamp_ms, -1, -1, -1, 1) + record
    length = len(checked) + _CHECKED_FROM - 12
    return struct.pack(">qiibI", 0, length, -1, 2, crc32c(checked)) + checked


def last_offset(records: bytes) -> int:
    """Of the first batch in them; -1 if it is not there whole."""
    if len(records) < 61:
        return -1
    base_offset, length = struct.unpack_from(">qi", records)
    (last_offset_delta,) = struct.unpack_from(">i", records, 23)
    return base_offset + last_offset_delta if len(records) >= 12 + length else -1
