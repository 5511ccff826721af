"""Clients whose broker goes away, stalls or closes on them: they come back, and nothing is lost or there twice."""

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ..failure import check, check_equal, shorten
from ..record import Received, Record
from ..scenario import WIRE, Context, Program, Suite
from ..steps.records import Produce, Read
from ..waiting import wait_until
from ..wire.raw import api_versions_request, connect, frame, header, read_frame
from .kill9 import PARTITIONS, await_progress, judge

RECORDS_PER_S = 300
VALUE_BYTES = 60
RESUME_SECONDS = 60.0

# How long the broker is away or still: longer than a client's patience with one attempt, shorter than with a record.
AWAY_SECONDS = 4.0
IDLE_MS = 2000

WAVES = 10
CONNECTIONS_PER_WAVE = 500
RESIDENT_GROWTH_KIB = 48 * 1024


def clean_restart(context: Context) -> None:
    context.broker.stop()
    context.broker.start()


def killed(context: Context) -> None:
    context.broker.kill()
    context.broker.start()


def refuses_for_a_while(context: Context) -> None:
    context.broker.kill()
    time.sleep(AWAY_SECONDS)  # how long connections are refused: not a wait for something
    context.broker.start()


def stalled(context: Context) -> None:
    assert context.broker.pid is not None
    os.kill(context.broker.pid, signal.SIGSTOP)
    try:
        time.sleep(AWAY_SECONDS)  # how long it stands still
    finally:
        os.kill(context.broker.pid, signal.SIGCONT)


def goes_on(disturb: Callable[[Context], None]) -> Callable[[Context], None]:
    """A producer and a consumer work, the broker is disturbed, and both work on."""

    def body(context: Context) -> None:
        context.broker.start()
        driver = context.driver()
        topic = context.create_topic("t", PARTITIONS)
        reader, name = context.name("reader"), context.name("load")
        acks = {name: context.directory / "acks"}
        driver.call(
            "load_start",
            id=name,
            topic=topic,
            partitions=PARTITIONS,
            ack_path=str(acks[name]),
            records_per_s=RECORDS_PER_S,
            size=VALUE_BYTES,
        )
        received: list[Received] = []

        def take() -> int:
            taken = driver.call("consumer_take", id=reader)["records"]
            received.extend(map(Received.from_json, taken))
            return len(received)

        await_progress(context, acks)
        driver.call("consumer_open", id=reader, assign=[[topic, each, -2] for each in range(PARTITIONS)], config={})
        try:
            wait_until("the first records", take, RESUME_SECONDS)
            disturb(context)
            await_progress(context, acks)
            stopped = driver.call("load_stop", wait_s=120, id=name)
            check(not stopped["failures"] and not stopped["left"], f"not delivered: {shorten(stopped)}")
            dump = context.directory / "dump"
            context.driver(client="python").call("dump", wait_s=120, topic=topic, partitions=PARTITIONS, path=str(dump))
            verdict = judge(acks, dump, {name: stopped["sent"]})
            if "idempotence" not in driver.capabilities:
                verdict.duplicates.clear()
                verdict.reordered.clear()
                verdict.moved.clear()
            context.note(str(verdict))
            check(not verdict.failed(), f"{verdict}: {verdict.examples()}")
            wait_until(f"{verdict.read} records", lambda: take() >= verdict.read, RESUME_SECONDS, lambda: len(received))
        finally:
            driver.call("consumer_close", id=reader)
        positions = sorted((each.partition, each.offset) for each in received)
        check_equal("records received twice", len(positions) - len(set(positions)), 0)
        check_equal("records received", len(positions), verdict.read)

    return body


def idle_closed(context: Context) -> None:
    """The broker closes what says nothing; the next request opens a connection again."""
    context.broker.start({"connections.max.idle.ms": str(IDLE_MS)})
    context.create_topic("t")
    records = [Record(b"value %d" % number) for number in range(10)]
    for _ in range(2):
        Produce("t", records, {"acks": "all"}).run(context)
        Read("t").run(context)
        # Opened last, so what the client had open has been idle for longer when this one is closed.
        with closing(connect(context.broker.host, context.broker.port)) as witness:
            answered(witness, 1)
            witness.settimeout(IDLE_MS / 1000 + 20)
            check_equal("what an idle connection reads", witness.recv(1), b"")
    Produce("t", records, {"acks": "all"}).run(context)
    Read("t").run(context)


def descriptors(context: Context) -> int:
    return len(list(Path(f"/proc/{context.broker.pid}/fd").iterdir()))


def answered(connection: socket.socket, number: int) -> None:
    connection.sendall(api_versions_request(number))
    check(read_frame(connection, 30), f"connection {number} got no answer")


def reset(connection: socket.socket) -> None:
    """RST instead of FIN: as if the peer's machine were gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def wave(context: Context, first: int) -> None:
    """Connections that are used, idle or half way through a frame, and end in three ways."""
    connections = [connect(context.broker.host, context.broker.port) for _ in range(CONNECTIONS_PER_WAVE)]
    for number, connection in enumerate(connections, first):
        if number % 3 == 0:
            answered(connection, number)
        elif number % 3 == 1:
            connection.sendall(frame(header(3, 4) + b"\x00" * 100)[: number % 90 + 1])
    for number, connection in enumerate(connections):
        reset(connection) if number % 2 else connection.close()


def come_and_go(context: Context) -> None:
    """Five thousand connections; afterwards the broker holds no more descriptors and hardly more memory."""
    context.broker.start()
    wave(context, 0)  # what the first ones make a broker allocate, it keeps
    with closing(connect(context.broker.host, context.broker.port)) as connection:
        answered(connection, 0)

    settled = [descriptors(context)]

    def still() -> bool:
        now = descriptors(context)
        same, settled[0] = now == settled[0], now
        return same

    wait_until("the broker's descriptors to settle", still, 30, interval_s=0.5)
    before, resident = settled[0], context.broker.resident_kib()
    for number in range(WAVES):
        wave(context, number * CONNECTIONS_PER_WAVE)
    wait_until(
        f"the broker to have {before} descriptors again",
        lambda: descriptors(context) <= before,
        60,
        lambda: descriptors(context),
        interval_s=0.1,
    )
    grown = context.broker.resident_kib() - resident
    context.note(f"{WAVES * CONNECTIONS_PER_WAVE} connections; {before} descriptors before and after, {grown} KiB more")
    if context.factory is None or context.factory.name != "kafka":
        check(grown < RESIDENT_GROWTH_KIB, f"resident memory grew by {grown} KiB")


def half_open(context: Context) -> None:
    """Peers that vanished half way through a frame are closed when they have been idle; others are not disturbed."""
    context.broker.start({"connections.max.idle.ms": str(IDLE_MS)})
    before = descriptors(context)
    kept = [connect(context.broker.host, context.broker.port) for _ in range(100)]
    for connection in kept:
        connection.sendall(frame(header(3, 4) + b"\x00" * 100)[:50])
    with closing(connect(context.broker.host, context.broker.port)) as busy:
        try:
            deadline = time.monotonic() + IDLE_MS / 1000 + 30
            for connection in kept:
                connection.settimeout(IDLE_MS / 1000 / 4)
                while True:
                    # Often enough that it is not idle itself.
                    answered(busy, 1)
                    try:
                        check_equal("what a half-open connection reads", connection.recv(1), b"")
                        break
                    except TimeoutError:
                        check(time.monotonic() < deadline, "a half-open connection is still open")
        finally:
            for connection in kept:
                connection.close()
    wait_until("the descriptors to be back", lambda: descriptors(context) <= before + 1, 30)


NEEDS = frozenset({"assign", "load", "reconnect"})

SUITES = (
    Suite(
        "reconnect",
        [
            Program("clean-restart", goes_on(clean_restart), NEEDS),
            Program("killed", goes_on(killed), NEEDS),
            Program("refuses-for-a-while", goes_on(refuses_for_a_while), NEEDS),
            Program("stalled", goes_on(stalled), NEEDS),
            Program("idle-closed", idle_closed, frozenset({"assign", "eof", "reconnect"})),
        ],
        own_brokers=True,
        side_by_side=True,
        ci=frozenset({"killed"}),
        ci_more=frozenset({"killed", "idle-closed"}),
    ),
    Suite(
        "reconnect",
        [Program("five-thousand-come-and-go", come_and_go), Program("half-open", half_open)],
        clients=(WIRE,),
        own_brokers=True,
    ),
)
