"""Wrong requests and hostile bytes: answered or closed as Apache Kafka does, others undisturbed, memory bounded."""

import socket
import struct
import threading
from collections.abc import Callable, Mapping

from ..failure import Failed, check, check_equal, shorten
from ..record import Record
from ..scenario import WIRE, Context, Program, Suite
from ..waiting import wait_until
from ..wire import recorded
from ..wire.admin_cases import ADMIN_CASES, OWN_TOPIC
from ..wire.case import Case
from ..wire.group_cases import GROUP_CASES, find, heartbeat
from ..wire.raw import api_versions_request, connect, fetch_request, frame, header, outcome, read_frame
from ..wire.record_cases import RECORD_CASES

RAW_SECONDS = 3.0
BASE_MS = 1_700_000_000_000
IDLE_CONNECTIONS = 1000
# What hostile clients may cost beyond an idle broker.
RESIDENT_GROWTH_KIB = 256 * 1024

CASES = [*RECORD_CASES, *GROUP_CASES, *ADMIN_CASES]

# This run's answers, for the table.
answered: dict[str, object] = {}
_fixtures: dict[str, dict[str, str]] = {}


def fixtures(context: Context) -> dict[str, str]:
    """Topics that all cases of one broker share, under names of this run."""
    if context.broker.bootstrap not in _fixtures:
        driver = context.driver()
        names = {"$topic": led_topic(context, "topic", 3)}
        names["$configured"] = context.create_topic(
            "configured", configs={"retention.ms": "1234567", "cleanup.policy": "compact,delete"}
        )
        names["$empty"] = led_topic(context, "empty")
        names["$three"] = led_topic(context, "three", 1, {"retention.ms": "-1"})
        names["$collides"] = context.create_topic("with_underscore").replace("_underscore", ".underscore")
        names["$topic_id"] = driver.call("topic_id", name=names["$topic"])
        records = [Record(b"%d" % number, timestamp=BASE_MS + number).to_json() for number in range(3)]
        driver.call("produce", topic=names["$three"], records=records, config={})
        await_coordinators(context)
        _fixtures[context.broker.bootstrap] = names
    return _fixtures[context.broker.bootstrap]


def led_topic(context: Context, short: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
    """A topic whose partitions all answer: Apache Kafka's may have no leader yet when they are created."""
    name = context.create_topic(short, partitions, configs)
    for partition in range(partitions):
        context.driver().call("offsets", topic=name, partition=partition, at="end")
    return name


def await_coordinators(context: Context) -> None:
    """The first use of a group creates the internal topic: until all its partitions are loaded, groups are refused."""
    broker = context.broker
    context.driver().call(
        "wire", host=broker.host, port=broker.port, timeout_s=30, requests=[find(0, "first").to_json({})]
    )
    beats = [heartbeat(2, member="nobody", group=f"warm-{number}").to_json({}) for number in range(400)]

    def all_loaded() -> bool:
        answers = context.driver().call("wire", host=broker.host, port=broker.port, timeout_s=30, requests=beats)
        # UNKNOWN_MEMBER_ID comes from a coordinator at work.
        return all(answer.get("body", {}).get("errorCode") == 25 for answer in answers)

    wait_until("all group coordinators to be loaded", all_loaded, 60, interval_s=0.2)


def names_of(context: Context, case: str) -> dict[str, str]:
    """Shared topics, and names only this case uses."""
    names = dict(fixtures(context))
    if case.startswith("produce"):
        # Offsets in the answers: no other case may have written there.
        names["$topic"] = led_topic(context, "own", 3)
        names["$topic_id"] = context.driver().call("topic_id", name=names["$topic"])
    if case.startswith(OWN_TOPIC):
        names["$mine"] = led_topic(context, "mine", 2)
    names["$sequenced"] = led_topic(context, "sequenced") if case.startswith("idempotent") else ""
    if "compacted" in case:
        names["$compacted"] = led_topic(context, "compacted", 1, {"cleanup.policy": "compact"})
    return {
        **names,
        "$absent": context.name("absent"),
        "$new": context.name("new"),
        "$group": context.name("group"),
    }


def check_recorded(
    context: Context, name: str, answer: object, meant: Callable[[object], object] | None = None
) -> None:
    answered[name] = answer
    recorded.check(recorded.ERRORS, context, name, answer, meant)


def case_program(case: Case) -> Program:
    def body(context: Context) -> None:
        names = names_of(context, case.name)
        answers = case.run(context.driver(), context.broker.host, context.broker.port, names)
        check_recorded(context, case.name, answers, case.expected)

    return Program(case.name, body)


# Frames that are no requests, and requests that are no sense.

MANY_TAGS = b"\x80\xad\xe2\x04"  # 10,000,000 as an unsigned varint

RAW_BYTES: dict[str, bytes] = {
    "frame-of-zero-bytes": struct.pack(">i", 0),
    "frame-of-minus-one-bytes": struct.pack(">i", -1),
    "frame-of-the-least-size": struct.pack(">i", -(2**31)),
    "frame-one-over-the-limit": struct.pack(">i", 100 * 1024 * 1024 + 1),
    "frame-of-the-largest-size": struct.pack(">i", 2**31 - 1),
    "frame-of-one-byte": frame(b"\x00"),
    "frame-of-seven-bytes": frame(b"\x00" * 7),
    "http-request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls-hello": bytes.fromhex("160301020001000001fc0303") + b"\x00" * 64,
    "random-bytes": bytes((number * 89 + 7) & 0x7F for number in range(64)),
    "api-key-9999": frame(header(9999, 0)),
    "api-key-minus-1": frame(header(-1, 0)),
    "api-key-4-removed": frame(header(4, 0)),
    "api-version-minus-1": frame(header(3, -1)),
    "metadata-version-100": frame(header(3, 100) + b"\x00" * 8),
    "client-id-longer-than-the-frame": frame(struct.pack(">hhih", 18, 0, 1, 20000)),
    "client-id-of-length-minus-2": frame(struct.pack(">hhih", 18, 0, 1, -2)),
    "client-id-not-utf-8": frame(header(18, 0, client_id=b"\xff\xfe\xfd")),
    "null-client-id": frame(header(18, 0, client_id=None)),
    "api-versions-0": api_versions_request(),
    "ten-million-tags-in-the-header": frame(header(18, 3) + MANY_TAGS + b"\x02a\x02b\x00"),
    "ten-million-tags-in-the-body": frame(header(18, 3) + b"\x00\x02a\x02b" + MANY_TAGS),
    "tag-longer-than-the-frame": frame(header(18, 3) + b"\x00\x02a\x02b\x01\x00\xff\xff\xff\xff\x07"),
    "varint-without-end": frame(header(18, 3) + b"\x00" + b"\xff" * 20),
    "string-longer-than-the-frame": frame(header(18, 3) + b"\x00\xff\xff\xff\xff\x07a"),
    "metadata-two-thousand-million-topics": frame(header(3, 1) + struct.pack(">i", 2**31 - 1)),
    "metadata-minus-two-topics": frame(header(3, 1) + struct.pack(">i", -2)),
    "metadata-topic-name-of-minus-two": frame(header(3, 4) + struct.pack(">ih", 1, -2) + b"\x00"),
    "produce-two-thousand-million-topics": frame(header(0, 3) + struct.pack(">hhii", -1, 1, 1000, 2**31 - 1)),
    "produce-records-of-minus-five": frame(
        header(0, 3) + struct.pack(">hhii", -1, 1, 1000, 1) + b"\x00\x01t" + struct.pack(">iii", 1, 0, -5)
    ),
    "fetch-two-thousand-million-topics": frame(header(1, 4) + struct.pack(">iiiibi", -1, 1, 1, 1, 0, 2**31 - 1)),
    "join-group-two-thousand-million-protocols": frame(
        header(11, 0) + b"\x00\x01g" + struct.pack(">i", 10000) + b"\x00\x00\x00\x01c" + struct.pack(">i", 2**31 - 1)
    ),
    "create-topics-empty-body": frame(header(19, 2)),
}

# Half a request and then no more: the sender closes its side.
FULL_METADATA = frame(header(3, 4) + struct.pack(">ih", 1, 1) + b"t\x00")


def raw_program(name: str, payload: bytes, shut: bool = False) -> Program:
    def body(context: Context) -> None:
        with undisturbed(context):
            got = outcome(context.broker.host, context.broker.port, payload, RAW_SECONDS, shut)
        check_recorded(context, name, got)

    return Program(name, body)


def every_truncation(context: Context) -> None:
    """A request cut after each byte, the sender's side closed: closed by the broker as well, each time."""
    with undisturbed(context):
        for length in range(len(FULL_METADATA)):
            got = outcome(context.broker.host, context.broker.port, FULL_METADATA[:length], RAW_SECONDS, shut=True)
            check_equal(f"after {length} of {len(FULL_METADATA)} bytes", got, {"closed": True})


def idle_connections(context: Context) -> None:
    """A thousand connections that say nothing, open while others work, and each still usable after."""
    connections: list[socket.socket] = []
    try:
        with undisturbed(context):
            for _ in range(IDLE_CONNECTIONS):
                connections.append(connect(context.broker.host, context.broker.port))
            for number, connection in enumerate(connections):
                connection.sendall(api_versions_request(number))
            for number, connection in enumerate(connections):
                answer = read_frame(connection, 20)
                check(answer, f"connection {number} got no answer")
                check_equal("correlation id", struct.unpack(">i", (answer or b"")[:4])[0], number)
    finally:
        for connection in connections:
            connection.close()


def half_open(context: Context, start_of_frame: bytes) -> None:
    """Half a frame and then silence, many times; then the connections vanish without a farewell."""
    connections: list[socket.socket] = []
    with undisturbed(context) as healthy:
        for _ in range(200):
            connection = connect(context.broker.host, context.broker.port)
            connection.sendall(start_of_frame)
            connections.append(connection)
        healthy.goes_on()
        for connection in connections:
            # Reset instead of FIN: as if the peer's machine were gone and back.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def half_open_connections(context: Context) -> None:
    half_open(context, frame(header(3, 4) + b"\x00" * 1000)[:200])


def large_frames_announced(context: Context) -> None:
    """50 MiB announced, 100 bytes sent, 200 times: Apache Kafka runs out of memory here."""
    half_open(context, struct.pack(">i", 50 * 1024 * 1024) + b"\x00" * 100)


def never_reads(context: Context) -> None:
    """Clients that ask for all data again and again and never read an answer."""
    topic = context.create_topic("large")
    value = Record(b"n" * 900_000).to_json()
    for _ in range(3):
        context.driver().call("produce", topic=topic, records=[value] * 10, config={"max.request.size": "1048576"})
    connections = []
    try:
        with undisturbed(context) as healthy:
            for _ in range(20):
                connection = connect(context.broker.host, context.broker.port, receive_buffer=4096)
                connection.setblocking(False)
                connections.append(connection)
                payload = b"".join(fetch_request(topic, each, 50_000_000) for each in range(200))
                try:
                    connection.send(payload)
                except BlockingIOError:
                    continue  # the broker reads no more from it: so it should be
            healthy.goes_on()
    finally:
        for connection in connections:
            connection.close()


def slow_sender(context: Context) -> None:
    """A request that arrives byte by byte is answered like any other."""
    payload = api_versions_request(77)
    with undisturbed(context), connect(context.broker.host, context.broker.port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(payload)):
            connection.sendall(payload[position : position + 1])
        answer = read_frame(connection, 20)
        check(answer, "no answer")
        check_equal("correlation id", struct.unpack(">i", (answer or b"")[:4])[0], 77)


def pipelined(context: Context) -> None:
    """Many requests before the first answer is read: answered in order."""
    with undisturbed(context), connect(context.broker.host, context.broker.port) as connection:
        connection.sendall(b"".join(api_versions_request(number) for number in range(500)))
        received = b""
        connection.settimeout(20)
        for number in range(500):
            while len(received) < 4 or len(received) < 4 + struct.unpack(">i", received[:4])[0]:
                part = connection.recv(1 << 20)
                check(part, f"closed before answer {number}")
                received += part
            size = struct.unpack(">i", received[:4])[0]
            check_equal("correlation id", struct.unpack(">i", received[4:8])[0], number)
            received = received[4 + size :]


class undisturbed:
    """Around something hostile: a healthy client goes on all the while, and the broker's memory stays bounded."""

    def __init__(self, context: Context):
        self._context = context
        self._stop = threading.Event()
        self._rounds = 0
        self._failure: list[str] = []
        self._topic = context.create_topic("healthy")
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "undisturbed":
        broker = self._context.broker
        self._before = None if broker.pid is None else broker.restart_peak()
        self._thread.start()
        wait_until("the healthy client's first round", lambda: self._rounds or self._failure, 30)
        return self

    def goes_on(self) -> None:
        """Waits for rounds of the healthy client that begin from here."""
        wanted = self._rounds + 2
        wait_until("the healthy client to go on", lambda: self._rounds >= wanted or self._failure, 30)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.goes_on()
        self._stop.set()
        self._thread.join(60)
        if kind is not None:
            return
        if self._failure:
            raise Failed(f"the healthy client failed: {self._failure[0]}")
        # The most there ever was: what was taken meanwhile and is given back by now counts too.
        if self._before is not None and self._bounded():
            grown = self._context.broker.peak_kib() - self._before
            check(grown < RESIDENT_GROWTH_KIB, f"resident memory grew by {grown} KiB over {self._before} KiB")

    def _work(self) -> None:
        driver = self._context.driver()
        try:
            while not self._stop.is_set():
                value = b"round %d" % self._rounds
                answer = driver.call(
                    "produce", topic=self._topic, records=[Record(value).to_json()], config={"acks": "all"}
                )
                check_equal("offset", answer["results"][0].get("offset"), self._rounds)
                if self._rounds % 10 == 0:
                    end = driver.call("offsets", topic=self._topic, partition=0, at="end")
                    check_equal("end offset", end, self._rounds + 1)
                self._rounds += 1
        except Exception as error:  # told by the scenario's own thread
            self._failure.append(shorten(str(error)))

    def _bounded(self) -> bool:
        # A JVM takes the heap it was given; what that says about a broker is nothing.
        return self._context.factory is None or self._context.factory.name != "kafka"


HOSTILE: dict[str, Callable[[Context], None]] = {
    "truncated-at-every-byte": every_truncation,
    "thousand-idle-connections": idle_connections,
    "half-open-connections": half_open_connections,
    "large-frames-announced": large_frames_announced,
    "clients-that-never-read": never_reads,
    "byte-by-byte": slow_sender,
    "five-hundred-pipelined": pipelined,
}


def beside_a_fresh_broker(body: Callable[[Context], None]) -> Callable[[Context], None]:
    """Memory that other scenarios made a broker take, and give back to its allocator, would hide what these take."""

    def started(context: Context) -> None:
        context.broker.start()
        body(context)

    return started


SUITES = (
    Suite(
        "errors",
        [
            *[case_program(case) for case in CASES],
            *[raw_program(name, payload) for name, payload in RAW_BYTES.items()],
            raw_program("half-a-frame-then-shut", FULL_METADATA[:-3], shut=True),
        ],
        clients=(WIRE,),
    ),
    Suite(
        "errors",
        [Program(name, beside_a_fresh_broker(body)) for name, body in HOSTILE.items()],
        clients=(WIRE,),
        own_brokers=True,
        only_ottla=frozenset({"large-frames-announced"}),
    ),
)
