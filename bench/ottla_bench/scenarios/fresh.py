"""Scenarios on a broker that has carried no load: start, idle connections, topics, many partitions."""

import select
import socket
import struct
import time

from ..brokers import Broker
from ..depth import Depth
from ..failure import CellFailed
from ..waiting import wait_until

STARTUP, CONNECTIONS, TOPICS, PARTITIONS = "startup", "connections", "topics", "partitions"
NEW, AGAIN = "new data directory", "after a clean stop"
# Until a fresh process has done what it does by itself.
SETTLE_SECONDS = 2
_API_VERSIONS_V0 = struct.pack(">ihhih", 10, 18, 0, 7, -1)
# A client address has 28,000 ports to come from; these have more than enough together.
_SOURCES = [f"127.0.0.{last}" for last in range(2, 12)]


def startup(broker: Broker) -> dict[str, dict[str, float]]:
    """Cells and their figures."""
    cold = broker.start(tied=False)
    time.sleep(SETTLE_SECONDS)
    idle = broker.resident_mib()
    broker.stop()
    again = broker.start(tied=False)
    return {
        NEW: {"exec to first answer ms": cold * 1e3, "idle RSS MiB": idle},
        AGAIN: {"exec to first answer ms": again * 1e3},
    }


def connections(broker: Broker, depth: Depth) -> dict[str, dict[str, float]]:
    broker.start()
    time.sleep(SETTLE_SECONDS)
    before, cpu = broker.resident_mib(), broker.cpu_seconds()
    opened: list[socket.socket] = []
    begun = time.perf_counter()
    try:
        for index in range(depth.connections):
            source = (_SOURCES[index % len(_SOURCES)], 0)
            connection = socket.create_connection(("127.0.0.1", broker.port), timeout=30, source_address=source)
            opened.append(connection)
            connection.sendall(_API_VERSIONS_V0)
            _skip_answer(connection)
        seconds = time.perf_counter() - begun
        time.sleep(SETTLE_SECONDS)
        _all_open(opened)
        per_connection = (broker.resident_mib() - before) * 1024 / len(opened)
        used = broker.cpu_seconds() - cpu
    except OSError as error:
        raise CellFailed(f"connection {len(opened) + 1}: {error}") from None
    finally:
        for connection in opened:
            connection.close()
    return {
        f"{depth.connections:,} idle connections, each asked once": {
            "RSS KiB/connection": per_connection,
            "seconds": seconds,
            "broker CPU us/connection": used / depth.connections * 1e6,
        }
    }


def _all_open(connections: list[socket.socket]) -> None:
    """Nothing was asked, so nothing may be there to read: neither bytes nor an end."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN | select.POLLHUP)
    changed = len(poll.poll(0))
    if changed:
        raise CellFailed(f"{changed} of {len(connections)} idle connections were closed")


def _skip_answer(connection: socket.socket) -> None:
    head = connection.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        raise CellFailed("the broker closed an idle connection")
    left = struct.unpack(">i", head)[0]
    while left > 0:
        part = connection.recv(left)
        if not part:
            raise CellFailed("the broker closed an idle connection")
        left -= len(part)


def topics(broker: Broker, depth: Depth) -> dict[str, dict[str, float]]:
    broker.start()
    names = [f"bench-{index}" for index in range(depth.topics)]
    cells: dict[str, dict[str, float]] = {}
    with broker.connect() as connection:
        for how in ("one by one", "one request"):
            batches = [[name] for name in names] if how == "one by one" else [names]
            begun = time.perf_counter()
            for batch in batches:
                connection.create_topics(dict.fromkeys(batch, 1))
            created = time.perf_counter() - begun
            wait_until("all topics to have leaders", lambda: sum(connection.led_partitions(names).values()) == len(names), 120)
            usable = time.perf_counter() - begun
            begun = time.perf_counter()
            for batch in batches:
                connection.delete_topics(batch)
            deleted = time.perf_counter() - begun
            wait_until("all topics to be gone", lambda: not any(connection.led_partitions(None).values()), 120)
            cells[f"{len(names):,} topics, {how}"] = {"create s": created, "create to usable s": usable, "delete s": deleted}
    return cells


def partitions(broker: Broker, depth: Depth) -> dict[str, dict[str, float]]:
    broker.start()
    time.sleep(SETTLE_SECONDS)
    idle = broker.resident_mib()
    names = [f"bench-{index}" for index in range(depth.partition_topics)]
    total = depth.partition_topics * depth.partitions_per_topic

    def all_led() -> bool:
        with broker.connect() as connection:
            return sum(connection.led_partitions(names).values()) == total

    begun = time.perf_counter()
    with broker.connect() as connection:
        for name in names:
            connection.create_topics({name: depth.partitions_per_topic})
    wait_until("all partitions to have leaders", all_led, 180, 0.1)
    created = time.perf_counter() - begun
    time.sleep(SETTLE_SECONDS)
    after = broker.resident_mib()
    broker.stop()
    begun = time.perf_counter()
    broker.start()
    wait_until("all partitions to have leaders", all_led, 180, 0.005)
    started = time.perf_counter() - begun
    time.sleep(SETTLE_SECONDS)
    restarted = broker.resident_mib()
    return {
        f"{total:,} partitions": {
            "create s": created,
            "RSS MiB": after,
            "exec to all led s": started,
            "RSS after restart MiB": restarted,
            "RSS KiB/partition after restart": (restarted - idle) * 1024 / total,
        }
    }
