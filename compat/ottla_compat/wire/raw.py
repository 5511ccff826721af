"""Bytes on a socket, well formed or not, and what the broker does about them."""

import select
import socket
import struct
import time
from typing import Any

FRAME_BYTES_MAX = 100 * 1024 * 1024


def connect(host: str, port: int, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(10)
    connection.connect((host, port))
    return connection


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def header(api_key: int, version: int, correlation_id: int = 1, client_id: bytes | None = b"raw") -> bytes:
    """A request header of version 1."""
    name = struct.pack(">h", -1) if client_id is None else struct.pack(">h", len(client_id)) + client_id
    return struct.pack(">hhi", api_key, version, correlation_id) + name


def api_versions_request(correlation_id: int = 1) -> bytes:
    return frame(header(18, 0, correlation_id))


def fetch_request(topic: str, correlation_id: int, max_bytes: int) -> bytes:
    """Fetch v4 from offset 0 of partition 0."""
    name = topic.encode()
    body = struct.pack(">iiiibi", -1, 100, 1, max_bytes, 0, 1)
    body += struct.pack(">h", len(name)) + name + struct.pack(">iiqi", 1, 0, 0, max_bytes)
    return frame(header(1, 4, correlation_id) + body)


def outcome(host: str, port: int, payload: bytes, seconds: float, shut: bool = False) -> dict[str, Any]:
    """What follows the payload: closed, a frame with this correlation id, or nothing within the time."""
    with connect(host, port) as connection:
        try:
            connection.sendall(payload)
            if shut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            return {"closed": True}
        answer = read_frame(connection, seconds)
        if answer is None:
            return {"silent": True}
        if not answer:
            return {"closed": True}
        return {"answered": struct.unpack(">i", answer[:4])[0], "then": answer[4:6].hex()}


def readable(connection: socket.socket, seconds: float) -> bool:
    """Waits until there is something to read. By poll: select knows no descriptor beyond 1023."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def read_frame(connection: socket.socket, seconds: float) -> bytes | None:
    """A frame's content; empty when the peer closed, None when the time is over."""
    deadline = time.monotonic() + seconds
    received = b""
    while True:
        if len(received) >= 4:
            size = struct.unpack(">i", received[:4])[0]
            if len(received) >= 4 + size:
                return received[4 : 4 + size]
        left = deadline - time.monotonic()
        if left <= 0 or not readable(connection, left):
            return None
        try:
            part = connection.recv(1 << 20)
        except ConnectionError:
            return b""
        if not part:
            return b""
        received += part
