"""Partitions that move between log directories, under load, with kill -9 in the middle of moves."""

import random
import time
from pathlib import Path
from typing import Any

from ..driver import Driver
from ..failure import Failed, check, check_equal
from ..scenario import Context, Program, Suite
from ..waiting import wait_until
from .kill9 import PARTITIONS, await_progress, judge

NODE = 1
RECORDS_PER_S = 3000
VALUE_BYTES = 400
# Slow enough that kills come in the middle of copies.
BYTES_PER_SECOND = 2_000_000
LONGEST_MOVE_S = 0.6
MOVED_SECONDS = 120.0
NEEDS = frozenset({"alter_replica_log_dirs", "load"})


def two_directories(context: Context) -> list[str]:
    directories = [str(context.broker.data_directory), str(context.directory / "second")]
    context.broker.settings["log.dirs"] = ",".join(directories)
    return directories


def move(driver: Driver, topic: str, partition: int, directory: str) -> str:
    return driver.call("alter_replica_log_dirs", topic=topic, partition=partition, node=NODE, path=directory)


def places(driver: Driver, topic: str, partitions: int = PARTITIONS) -> list[dict[str, Any]]:
    return [
        driver.call("describe_replica_log_dirs", topic=topic, partition=number, node=NODE)
        for number in range(partitions)
    ]


def await_in(driver: Driver, topic: str, directory: str, partitions: int = PARTITIONS) -> None:
    def there() -> bool:
        found = places(driver, topic, partitions)
        return all(place["current"] == directory and place["future"] is None for place in found)

    wait_until(f"every partition in {directory}", there, MOVED_SECONDS, lambda: str(places(driver, topic, partitions)))


def errors_and_ends(context: Context) -> None:
    """What is refused, what is done already, and that the files are where they are said to be."""
    first, second = two_directories(context)
    context.broker.start()
    topic = context.create_topic("t")
    driver = context.driver()
    here = places(driver, topic, 1)[0]["current"]
    there = second if here == first else first
    for name, partition, directory, expected in (
        (topic, 0, here, ""),
        (topic, 0, str(Path(first).parent / "third"), "LOG_DIR_NOT_FOUND"),
        (topic, 0, "second", "LOG_DIR_NOT_FOUND"),
        (topic, 7, there, "UNKNOWN_TOPIC_OR_PARTITION"),
        (context.name("absent"), 0, there, "UNKNOWN_TOPIC_OR_PARTITION"),
        ("x" * 240, 0, there, "INVALID_TOPIC_EXCEPTION"),
    ):
        check_equal(f"{name} {partition} to {directory}", move(driver, name, partition, directory), expected)
    for directory in (there, here, there):
        check_equal("the answer", move(driver, topic, 0, directory), "")
        await_in(driver, topic, directory, 1)
        check((Path(directory) / f"{topic}-0").is_dir(), f"no {topic}-0 in {directory}")
    # Said before it is made.
    wanted = context.name("wanted")
    check_equal("the answer", move(driver, wanted, 0, here), "UNKNOWN_TOPIC_OR_PARTITION")
    context.create_topic("wanted")
    await_in(driver, wanted, here, 1)


def kills(context: Context) -> None:
    """Everything acknowledged is there once and in order, wherever a kill met a move."""
    chance = random.Random(context.options.seed)
    directories = two_directories(context)
    broker = context.broker
    broker.start()
    driver = context.driver()
    topic = context.create_topic("t", PARTITIONS)
    rate = [["set", "replica.alter.log.dirs.io.max.bytes.per.second", str(BYTES_PER_SECOND)]]
    driver.call("incremental_alter_configs", kind="broker", name="", ops=rate)
    acks = {"p0": context.directory / "acks"}
    load = {"partitions": PARTITIONS, "records_per_s": RECORDS_PER_S, "size": VALUE_BYTES}
    driver.call("load_start", id="p0", topic=topic, ack_path=str(acks["p0"]), **load)
    rounds = max(4, context.options.kills // 5)
    under_way = 0
    for number in range(rounds):
        await_progress(context, acks)
        target = directories[number % 2]
        for partition in range(PARTITIONS):
            check_equal("the answer", move(driver, topic, partition, target), "")
        # A time of life, not a wait for something.
        time.sleep(chance.uniform(0.0, LONGEST_MOVE_S))
        under_way += sum(place["future"] is not None for place in places(driver, topic))
        broker.kill()
        broker.start()
    check(under_way >= rounds, f"{under_way} moves were under way in {rounds} kills")
    # They go on by themselves, and end faster without a rate.
    driver.call("incremental_alter_configs", kind="broker", name="", ops=[["delete", rate[0][1], None]])
    await_in(driver, topic, directories[(rounds - 1) % 2])
    await_progress(context, acks)
    stopped = driver.call("load_stop", wait_s=330, id="p0")
    check(not stopped["failures"] and stopped["acked"] == stopped["sent"], f"not all delivered: {stopped}")
    dump = context.directory / "dump"
    driver.call("dump", wait_s=300, topic=topic, partitions=PARTITIONS, path=str(dump))
    verdict = judge(acks, dump, {"p0": stopped["sent"]})
    context.note(f"{rounds} kills, {under_way} moves under way, {verdict}")
    if verdict.failed():
        raise Failed(f"after {rounds} kills: {verdict}: {verdict.examples()}")


SUITE = Suite(
    "log-dirs",
    [Program("errors-and-ends", errors_and_ends, NEEDS), Program("kills-in-the-middle", kills, NEEDS)],
    clients=("java",),
    own_brokers=True,
    ci_more=frozenset({"errors-and-ends"}),
)
