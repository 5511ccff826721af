"""Clients on bare sockets that know exactly what they were told: a record or an offset is acknowledged or it is not.

They never send anything again: what is not answered stays unknown.
"""

import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from ..failure import Failed
from ..wire.batch import Batch
from ..wire.raw import connect, frame, header, readable

PRODUCE, FETCH, LIST_OFFSETS, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, DESCRIBE_LOG_DIRS = 0, 1, 2, 8, 9, 10, 35
NONE, KAFKA_STORAGE_ERROR = 0, 56
# The coordinator is on its way: loading, not available, not here yet.
COORDINATOR_TO_COME = (14, 15, 16)

ANSWER_SECONDS = 30.0
# Requests of one connection under way at once.
WINDOW = 5
RECONNECT_S = 0.02


class Gone(Exception):
    """The connection ended, or nothing came over it."""


def string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


class Answer:
    """Reads the fields of a response in order."""

    def __init__(self, content: bytes):
        self._content = content
        self._position = 0

    def take(self, kind: str) -> Any:
        value = struct.unpack_from(f">{kind}", self._content, self._position)[0]
        self._position += struct.calcsize(f">{kind}")
        return value

    def string(self) -> str | None:
        length = self.take("h")
        return None if length < 0 else self._bytes(length).decode()

    def bytes(self) -> bytes:
        return self._bytes(max(0, self.take("i")))

    def _bytes(self, length: int) -> bytes:
        start, self._position = self._position, self._position + length
        return self._content[start : self._position]


class Connection:
    """Requests and their answers, in order."""

    def __init__(self, host: str, port: int):
        try:
            self._socket = connect(host, port)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Gone(str(error)) from None
        self._next_id = 0
        self._received = b""

    def send(self, api_key: int, version: int, body: bytes) -> int:
        self._next_id += 1
        try:
            self._socket.sendall(frame(header(api_key, version, self._next_id) + body))
        except OSError as error:
            raise Gone(str(error)) from None
        return self._next_id

    def receive(self, correlation_id: int, seconds: float = ANSWER_SECONDS) -> Answer:
        deadline = time.monotonic() + seconds
        answer = Answer(self._take(struct.unpack(">i", self._take(4, deadline))[0], deadline))
        found = answer.take("i")
        if found != correlation_id:
            raise Failed(f"the answer to request {found} came where that to {correlation_id} was due")
        return answer

    def _take(self, size: int, deadline: float) -> bytes:
        """So many bytes; what comes behind them stays for the next answer."""
        while len(self._received) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not readable(self._socket, left):
                raise Gone("no answer")
            try:
                part = self._socket.recv(1 << 16)
            except OSError as error:
                raise Gone(str(error)) from None
            if not part:
                raise Gone("closed")
            self._received += part
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def call(self, api_key: int, version: int, body: bytes) -> Answer:
        return self.receive(self.send(api_key, version, body))

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Ack:
    partition: int
    sequence: int
    offset: int


class Worker:
    """A thread that works over one connection after the other until it is stopped."""

    def __init__(self, host: str, port: int):
        self._host = host
        self._port = port
        self._stopping = threading.Event()
        self._paused = threading.Event()
        self._idle = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._stopping.set()

    def stop(self) -> None:
        self.ask_to_stop()
        self._thread.join(2 * ANSWER_SECONDS)
        self.check()

    def pause(self) -> None:
        """No new connection from here on; the one there is goes on until it ends."""
        self._paused.set()

    def is_idle(self) -> bool:
        return self._idle.is_set()

    def resume(self) -> None:
        self._paused.clear()

    def check(self) -> None:
        if self._failure is not None:
            raise Failed(f"{type(self).__name__}: {self._failure}")

    def work(self, connection: Connection) -> None:
        """Until the connection or the worker ends."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._paused.is_set():
                self._idle.set()
                self._stopping.wait(RECONNECT_S)
                continue
            self._idle.clear()
            try:
                connection = Connection(self._host, self._port)
            except Gone:
                self._stopping.wait(RECONNECT_S)
                continue
            try:
                self.work(connection)
            except Gone:
                pass
            except BaseException as error:  # reported by the scenario's thread
                self._failure = error
                return
            finally:
                connection.close()


class RawProducer(Worker):
    """Sends records to each partition in turn; `acks` as of the protocol."""

    def __init__(
        self, name: str, host: str, port: int, topic: str, partitions: int, acks: int, batches_per_s: int, seed: int
    ):
        super().__init__(host, port)
        self.name = name
        self._topic = topic
        self._partitions = partitions
        self._acks_of_protocol = acks
        self._pause_s = 1 / batches_per_s
        self._chance = random.Random(f"{seed} {name}")
        self._lock = threading.Lock()
        self._sequences = [0] * partitions
        self._acked: list[Ack] = []
        self._refused: Counter[int] = Counter()
        self._acked_per_partition: Counter[int] = Counter()
        self._answered = 0

    def answered(self) -> int:
        """How many batches were acknowledged or refused."""
        with self._lock:
            return self._answered

    def acked(self) -> list[Ack]:
        with self._lock:
            return list(self._acked)

    def acked_count(self) -> int:
        with self._lock:
            return len(self._acked)

    def acked_of(self, partition: int) -> int:
        with self._lock:
            return self._acked_per_partition[partition]

    def refused(self) -> Counter[int]:
        """How many batches were refused, by error code."""
        with self._lock:
            return Counter(self._refused)

    def forget_acks(self, lost: set[Ack]) -> None:
        """What was promised and is known to be lost is promised no more."""
        with self._lock:
            self._acked = [ack for ack in self._acked if ack not in lost]

    def promised_ends(self) -> dict[int, int]:
        """By partition, the offset after the last one acknowledged."""
        with self._lock:
            ends: dict[int, int] = {}
            for ack in self._acked:
                ends[ack.partition] = max(ends.get(ack.partition, 0), ack.offset + 1)
            return ends

    def sent(self) -> list[int]:
        with self._lock:
            return list(self._sequences)

    def work(self, connection: Connection) -> None:
        waiting: deque[tuple[int, int, int, int]] = deque()
        number = 0
        due = time.monotonic()
        while waiting or not self._stopping.is_set():
            if not self._stopping.is_set() and len(waiting) < WINDOW:
                self._stopping.wait(max(0.0, due - time.monotonic()) if not waiting else 0.0)
                if time.monotonic() >= due:
                    due = max(due + self._pause_s, time.monotonic() - 1)
                    waiting.append(self._send(connection, number % self._partitions))
                    number += 1
                    continue
            if waiting:
                self._receive(connection, *waiting.popleft())

    def _send(self, connection: Connection, partition: int) -> tuple[int, int, int, int]:
        count = self._chance.randint(1, 5)
        with self._lock:
            first = self._sequences[partition]
            self._sequences[partition] += count
        padding = "." * self._chance.choice((5, 40, 300))
        values = [f"{self.name} {sequence} {padding}".encode() for sequence in range(first, first + count)]
        records = Batch(values=tuple(values), key=None).encode()
        body = string(None) + struct.pack(">hii", self._acks_of_protocol, 10_000, 1) + string(self._topic)
        body += struct.pack(">iii", 1, partition, len(records)) + records
        return connection.send(PRODUCE, 3, body), partition, first, count

    def _receive(self, connection: Connection, correlation_id: int, partition: int, first: int, count: int) -> None:
        answer = connection.receive(correlation_id)
        answer.take("i")
        answer.string()
        answer.take("i")
        found, error, base_offset = answer.take("i"), answer.take("h"), answer.take("q")
        if found != partition:
            raise Failed(f"an answer for partition {found}, not {partition}")
        with self._lock:
            self._answered += 1
            if error == NONE:
                self._acked += [Ack(partition, first + index, base_offset + index) for index in range(count)]
                self._acked_per_partition[partition] += count
            else:
                self._refused[error] += 1
        if error != NONE:
            self._stopping.wait(RECONNECT_S)


class RawCommitter(Worker):
    """Commits one offset after the other for one partition of a group without members."""

    def __init__(self, group: str, host: str, port: int, topic: str):
        super().__init__(host, port)
        self.group = group
        self._topic = topic
        self.sent = 0
        self.acked = 0
        self.refused: Counter[int] = Counter()

    def work(self, connection: Connection) -> None:
        connection.call(FIND_COORDINATOR, 0, string(self.group))
        while not self._stopping.is_set():
            self.sent += 1
            body = string(self.group) + struct.pack(">i", -1) + string("") + struct.pack(">qi", -1, 1)
            body += string(self._topic) + struct.pack(">iiq", 1, 0, self.sent) + string(None)
            answer = connection.call(OFFSET_COMMIT, 2, body)
            answer.take("i")
            answer.string()
            answer.take("i")
            answer.take("i")
            error = answer.take("h")
            if error == NONE:
                self.acked = self.sent
            else:
                self.refused[error] += 1
            self._stopping.wait(RECONNECT_S)

    def committed(self) -> int:
        """What the broker says now."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            connection = Connection(self._host, self._port)
            try:
                body = string(self.group) + struct.pack(">i", 1) + string(self._topic) + struct.pack(">ii", 1, 0)
                answer = connection.call(OFFSET_FETCH, 1, body)
            finally:
                connection.close()
            answer.take("i")
            answer.string()
            answer.take("i")
            answer.take("i")
            offset = answer.take("q")
            answer.string()
            error = answer.take("h")
            if error == NONE:
                return int(offset)
            if error not in COORDINATOR_TO_COME or time.monotonic() > deadline:
                raise Failed(f"OffsetFetch of {self.group}: error {error}")
            time.sleep(RECONNECT_S)


def log_end(host: str, port: int, topic: str, partition: int) -> int:
    """The offset after the last record that can be read; -1 if the partition cannot be used."""
    connection = Connection(host, port)
    try:
        body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">iiq", 1, partition, -1)
        answer = connection.call(LIST_OFFSETS, 1, body)
    finally:
        connection.close()
    answer.take("i")
    answer.string()
    answer.take("i")
    answer.take("i")
    error = answer.take("h")
    answer.take("q")
    offset = answer.take("q")
    return int(offset) if error == NONE else -1


def fetch(host: str, port: int, topic: str, partition: int, offset: int, max_bytes: int) -> tuple[int, bytes]:
    """The error and the records at an offset."""
    connection = Connection(host, port)
    try:
        body = struct.pack(">iiiibi", -1, 100, 1, max_bytes, 0, 1) + string(topic)
        body += struct.pack(">iiqi", 1, partition, offset, max_bytes)
        answer = connection.call(FETCH, 4, body)
    finally:
        connection.close()
    answer.take("i")
    if answer.take("i") != 1:
        raise Failed("a fetch answered without its topic")
    answer.string()
    answer.take("i")
    answer.take("i")
    error = answer.take("h")
    answer.take("q")
    answer.take("q")
    for _ in range(max(0, answer.take("i"))):
        answer.take("q")
        answer.take("q")
    return int(error), answer.bytes()


def log_directories(host: str, port: int) -> dict[str, int]:
    """Each log directory and its error."""
    connection = Connection(host, port)
    try:
        answer = connection.call(DESCRIBE_LOG_DIRS, 1, struct.pack(">i", -1))
    finally:
        connection.close()
    answer.take("i")
    found = {}
    for _ in range(answer.take("i")):
        error, path = answer.take("h"), answer.string()
        found[path or ""] = int(error)
        for _ in range(answer.take("i")):
            answer.string()
            for _ in range(answer.take("i")):
                answer.take("i")
                answer.take("q")
                answer.take("q")
                answer.take("b")
    return found
