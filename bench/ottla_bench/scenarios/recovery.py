"""A broker that is killed, and how long until it serves again: a log of many GiB, and many partitions.

Only the process dies: what it wrote is in the page cache, so nothing may be missing in any durability mode. Each is killed
as soon as everything is acknowledged, so some of it was never synced.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ..batch import last_offset, one_record
from ..brokers import Broker
from ..depth import Depth
from ..failure import CellFailed
from ..generators import perf_done
from ..processes import run_to_end, tree_bytes
from ..waiting import wait_until
from ..wire import Connection

SCENARIO = "recovery"
SERVING, ALL_SERVED = "exec to serving s", "exec to every partition serving s"
RECORD_BYTES = 1024
# The generator is given so much at a time.
PIECE_MIB = 512
PIECE_SECONDS = 300
# What must stay free on the disk.
LEFT_FREE_BYTES = 6 << 30
SERVE_SECONDS = 300
GIB = 1 << 30


def large_log_name(depth: Depth) -> str:
    return f"{depth.recovery_mib / 1024:g} GiB in one partition"


def partitions_name(depth: Depth) -> str:
    return f"{depth.partition_topics * depth.partitions_per_topic:,} partitions"


def large_log(broker: Broker, depth: Depth, ottla: Path) -> dict[str, dict[str, float]]:
    """A cell and its figures."""
    if shutil.disk_usage(broker.directory).free < (depth.recovery_mib << 20) + LEFT_FREE_BYTES:
        raise CellFailed(f"{depth.recovery_mib} MiB would leave less than {LEFT_FREE_BYTES >> 30} GiB of the disk")
    topic = "bench-log"
    broker.start()
    with broker.connect() as connection:
        connection.create_topics({topic: 1})
        wait_until("the topic's leader", lambda: connection.led_partitions([topic])[topic] == 1, 60)
    records = 0
    while records * RECORD_BYTES < depth.recovery_mib << 20:
        piece = min(PIECE_MIB << 20, (depth.recovery_mib << 20) - records * RECORD_BYTES) // RECORD_BYTES
        command = [str(ottla), "perf", "produce", topic, "--bootstrap-server", broker.bootstrap, "--json"]
        command += ["--record-size", str(RECORD_BYTES), "--records", str(piece)]
        records += perf_done(run_to_end(command, PIECE_SECONDS), "produced", piece)[0].records
    with broker.connect() as connection:
        check_ends(connection.log_ends(topic, 1), records)
    data = tree_bytes(broker.data)
    broker.kill()

    begun = time.perf_counter()
    answered = broker.start()

    def last_record(connection: Connection) -> bool:
        error, found = connection.fetch(topic, 0, records - 1)
        return error == 0 and last_offset(found) == records - 1

    until(broker, "the last record to be fetched", last_record)
    fetched = time.perf_counter() - begun
    batch = one_record(b"after", int(time.time() * 1000))
    until(broker, "a record to be acknowledged", lambda connection: connection.produce(topic, 1, batch) == [0])
    served = time.perf_counter() - begun
    with broker.connect() as connection:
        check_ends(connection.log_ends(topic, 1), records + 1)
    return {
        large_log_name(depth): {
            "exec to first answer s": answered,
            "exec to last record fetched s": fetched,
            SERVING: served,
            "log GiB": data / GIB,
        }
    }


def partitions(broker: Broker, depth: Depth) -> dict[str, dict[str, float]]:
    names = [f"bench-{index}" for index in range(depth.partition_topics)]
    each = depth.partitions_per_topic
    batch = one_record(b"x" * 100, int(time.time() * 1000))
    broker.start()

    def all_led(connection: Connection) -> bool:
        return sum(connection.led_partitions(names).values()) == len(names) * each

    with broker.connect() as connection:
        for name in names:
            connection.create_topics({name: each})
        wait_until("all partitions to have leaders", lambda: all_led(connection), 180, 0.1)
        for name in names:
            check_errors(connection.produce(name, each, batch))
    broker.kill()

    begun = time.perf_counter()
    answered = broker.start()
    until(broker, "all partitions to have leaders", all_led)
    led = time.perf_counter() - begun
    for name in names:
        until(broker, f"{name} to take records", lambda connection, name=name: not any(connection.produce(name, each, batch)))
    served = time.perf_counter() - begun
    with broker.connect() as connection:
        for name in names:
            for end in connection.log_ends(name, each):
                # What was answered with an error may have been appended, and was sent again.
                if end[0] != 0 or end[1] < 2:
                    raise CellFailed(f"a partition of {name} has error {end[0]} and ends at {end[1]} instead of 2")
    return {
        partitions_name(depth): {
            "exec to first answer s": answered,
            "exec to all led s": led,
            ALL_SERVED: served,
        }
    }


def until(broker: Broker, what: str, served: Callable[[Connection], bool]) -> None:
    """Asks until it is so; a broker that is coming up may close connections and refuse."""
    deadline = time.monotonic() + SERVE_SECONDS
    while True:
        try:
            with broker.connect() as connection:
                while time.monotonic() < deadline:
                    if served(connection):
                        return
                    time.sleep(0.001)
        except CellFailed as error:
            refused = error
        else:
            refused = None
        if time.monotonic() >= deadline:
            raise CellFailed(f"waited {SERVE_SECONDS} s for {what}: {refused or 'it was not so'}")
        assert broker.pid, "raises when the broker is gone"
        time.sleep(0.001)


def check_ends(ends: list[tuple[int, int]], expected: int) -> None:
    for error, end in ends:
        if error != 0 or end != expected:
            raise CellFailed(f"the log has error {error} and ends at {end} instead of {expected}")


def check_errors(errors: list[int]) -> None:
    if any(errors):
        raise CellFailed(f"errors {sorted(set(errors))} of {len(errors)} partitions")
