"""The few requests the harness sends itself, on a plain socket: topics made, described and deleted; records one by one."""

import socket
import struct

from .failure import CellFailed

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS = 0, 1, 2, 3, 18, 19, 20
_LATEST = -1


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _array(items: list[bytes]) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


class Answer:
    """Reads the fields of a response in order."""

    def __init__(self, body: bytes):
        self._body = body
        self._at = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self._body, self._at)
        self._at += struct.calcsize(">" + form)
        return value

    def string(self) -> str | None:
        length = self.number("h")
        if length < 0:
            return None
        text = self._body[self._at : self._at + length].decode()
        self._at += length
        return text

    def bytes(self) -> bytes:
        length = max(self.number("i"), 0)
        taken = self._body[self._at : self._at + length]
        self._at += length
        return taken

    def numbers_of(self, forms: str) -> list[int]:
        """One after the other."""
        return [self.number(form) for form in forms]

    def numbers(self, form: str) -> list[int]:
        return [self.number(form) for _ in range(self.number("i"))]


class Connection:
    """One connection, one request at a time."""

    def __init__(self, port: int, timeout_s: float = 120):
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        except OSError as error:
            raise CellFailed(f"cannot connect to the broker: {error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, api: int, version: int, body: bytes) -> Answer:
        request = struct.pack(">hhih", api, version, 7, -1) + body
        try:
            self._socket.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", self._exactly(4))
            answer = self._exactly(length)
        except OSError as error:
            raise CellFailed(f"the broker did not answer: {error}") from None
        if struct.unpack(">i", answer[:4])[0] != 7:
            raise CellFailed("an answer to another request")
        return Answer(answer[4:])

    def _exactly(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            part = self._socket.recv(length - len(parts))
            if not part:
                raise CellFailed("the broker closed the connection")
            parts += part
        return bytes(parts)

    def create_topics(self, topics: dict[str, int]) -> None:
        """Names and partition counts, in one request."""
        wanted = [
            _string(name) + struct.pack(">ih", partitions, 1) + _array([]) + _array([])
            for name, partitions in topics.items()
        ]
        answer = self.ask(CREATE_TOPICS, 4, _array(wanted) + struct.pack(">i?", 60_000, False))
        answer.number("i")
        for _ in range(answer.number("i")):
            name, code, message = answer.string(), answer.number("h"), answer.string()
            if code != 0:
                raise CellFailed(f"creating {name}: error {code} {message or ''}")

    def delete_topics(self, names: list[str]) -> None:
        answer = self.ask(DELETE_TOPICS, 3, _array([_string(name) for name in names]) + struct.pack(">i", 60_000))
        answer.number("i")
        for _ in range(answer.number("i")):
            name, code = answer.string(), answer.number("h")
            if code != 0:
                raise CellFailed(f"deleting {name}: error {code}")

    def led_partitions(self, names: list[str] | None) -> dict[str, int]:
        """How many partitions of each topic have a leader; every topic when no names are given."""
        wanted = struct.pack(">i", -1) if names is None else _array([_string(name) for name in names])
        answer = self.ask(METADATA, 4, wanted + struct.pack(">?", False))
        answer.number("i")
        for _ in range(answer.number("i")):
            answer.number("i"), answer.string(), answer.number("i"), answer.string()
        answer.string(), answer.number("i")
        led: dict[str, int] = {}
        for _ in range(answer.number("i")):
            topic_error, name, _ = answer.number("h"), answer.string(), answer.number("b")
            led[name or ""] = 0
            for _ in range(answer.number("i")):
                error, _, leader = answer.number("h"), answer.number("i"), answer.number("i")
                answer.numbers("i"), answer.numbers("i")
                led[name or ""] += topic_error == 0 and error == 0 and leader >= 0
        return led


    def produce(self, topic: str, partitions: int, batch: bytes) -> list[int]:
        """The same batch to each of the topic's partitions, acknowledged by all replicas; the errors."""
        records = struct.pack(">i", len(batch)) + batch
        data = [struct.pack(">i", partition) + records for partition in range(partitions)]
        body = struct.pack(">hhi", -1, -1, 60_000) + _array([_string(topic) + _array(data)])
        answer = self.ask(PRODUCE, 3, body)
        errors = []
        for _ in range(answer.number("i")):
            answer.string()
            for _ in range(answer.number("i")):
                answer.number("i")
                errors.append(answer.number("h"))
                answer.numbers_of("qq")
        return errors

    def fetch(self, topic: str, partition: int, offset: int) -> tuple[int, bytes]:
        """An error, and the records from this offset on: those that are there."""
        wanted = struct.pack(">iqi", partition, offset, 1 << 20)
        body = struct.pack(">iiiib", -1, 0, 1, 1 << 20, 0) + _array([_string(topic) + _array([wanted])])
        answer = self.ask(FETCH, 4, body)
        answer.numbers_of("ii")
        answer.string()
        answer.numbers_of("ii")
        error = answer.number("h")
        answer.numbers_of("qq")
        for _ in range(answer.number("i")):
            answer.numbers_of("qq")
        return error, answer.bytes()

    def log_ends(self, topic: str, partitions: int) -> list[tuple[int, int]]:
        """An error and the offset after the last record, of each partition."""
        wanted = [struct.pack(">iq", partition, _LATEST) for partition in range(partitions)]
        answer = self.ask(LIST_OFFSETS, 1, struct.pack(">i", -1) + _array([_string(topic) + _array(wanted)]))
        answer.number("i")
        answer.string()
        ends = []
        for _ in range(answer.number("i")):
            partition, error, _, offset = answer.numbers_of("ihqq")
            ends.append((partition, error, offset))
        return [(error, offset) for _, error, offset in sorted(ends)]


def answers_metadata(port: int) -> bool:
    """Whether a Metadata request is answered."""
    try:
        with Connection(port, 5) as connection:
            connection.ask(METADATA, 1, struct.pack(">i", -1))
            return True
    except CellFailed:
        return False
