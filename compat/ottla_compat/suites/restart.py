"""What a broker keeps over a restart, and how it refuses to start."""

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from ..brokers import Broker
from ..failure import check, check_equal
from ..record import Record
from ..scenario import WIRE, Context, Program, Suite
from ..steps.groups import AwaitOwned, Commit, CommittedIs, Drain, Join, Leave, NextRecordIs
from ..steps.records import Produce, Read, TopicConfigIs

TEN = [Record(b"value %d" % number, key=b"key", headers=(("h", b"1"),)) for number in range(10)]
CLEAN_MARKER = ".kafka_cleanshutdown"
REFUSAL_SECONDS = 15.0


def stop_cleanly(context: Context) -> None:
    """SIGTERM: ends as it should, in time, and says so on disk."""
    broker = context.broker
    code, seconds = broker.stop()
    context.note(f"stopped in {seconds:.2f} s")
    check(code in broker.clean_exit_codes, f"exit code {code} after SIGTERM:\n{broker.log_tail()}")
    check(seconds <= broker.stop_seconds, f"stopping took {seconds:.1f} s")
    check((broker.data_directory / CLEAN_MARKER).exists(), f"no {CLEAN_MARKER} after a clean stop")


def start(context: Context) -> None:
    context.note(f"started in {context.broker.start():.2f} s")


def records_survive(context: Context) -> None:
    start(context)
    context.create_topic("t", configs={"retention.ms": "1234567890"})
    for codec in ("none", "gzip", "zstd"):
        Produce("t", TEN, {"compression.type": codec}).run(context)
        Read("t").run(context)
        stop_cleanly(context)
        start(context)
        Read("t").run(context)
    Produce("t", TEN).run(context)
    Read("t").run(context)


def killed_and_back(context: Context) -> None:
    """Acknowledged with acks=all, killed, there again."""
    start(context)
    context.create_topic("t")
    for _ in range(2):
        Produce("t", TEN, {"acks": "all"}).run(context)
        context.broker.kill()
        check(not (context.broker.data_directory / CLEAN_MARKER).exists(), "a clean mark after kill -9")
        start(context)
        Read("t").run(context)


def offsets_survive(context: Context) -> None:
    start(context)
    context.create_topic("t")
    Produce("t", TEN).run(context)
    Join("a").run(context)
    Drain("a", 10).run(context)
    Commit("a", [("t", 0, 7)]).run(context)
    for _ in range(2):
        Leave("a").run(context)
        stop_cleanly(context)
        start(context)
        Join("a").run(context)
        NextRecordIs("a", 7).run(context)
        CommittedIs("a", [("t", 0, 7)]).run(context)


def members_return(context: Context) -> None:
    """Members that stay through a restart of the broker go on without having left."""
    start(context)
    context.create_topic("t", 4)
    for member in ("a", "b"):
        Join(member).run(context)
    AwaitOwned({"a": 2, "b": 2}).run(context)
    stop_cleanly(context)
    start(context)
    Produce("t", [Record(b"after", partition=number) for number in range(4)]).run(context)
    AwaitOwned({"a": 2, "b": 2}).run(context)
    Drain("a", 2).run(context)
    Drain("b", 2).run(context)


def topics_survive(context: Context) -> None:
    """Topic ids, partition counts, configurations, the cluster's id; a deleted topic stays deleted."""
    start(context)
    name = context.create_topic("t", 3, {"retention.ms": "1234567890"})
    gone = context.create_topic("gone")
    driver = context.driver()
    driver.call("delete_topic", name=gone)
    before = (driver.call("topic_id", name=name), driver.call("describe_cluster"))
    for _ in range(2):
        stop_cleanly(context)
        start(context)
        check_equal(
            "topic id and cluster", (driver.call("topic_id", name=name), driver.call("describe_cluster")), before
        )
        TopicConfigIs("t", {"retention.ms": "1234567890"}).run(context)
        topics = driver.call("metadata")["topics"]
        check_equal("partitions", len(topics[name]), 3)
        check(gone not in topics, "a deleted topic is back")


def idempotent_producer_goes_on(context: Context) -> None:
    """One producer, its sequence numbers going on over a restart."""
    config = {"acks": "all", "enable.idempotence": "true"}
    start(context)
    context.create_topic("t")
    Produce("t", TEN, config).run(context)
    stop_cleanly(context)
    start(context)
    Produce("t", TEN, config).run(context)
    context.broker.kill()
    start(context)
    Produce("t", TEN, config).run(context)
    Read("t").run(context)


# How a start is refused


def tree_hash(directory: Path) -> str:
    """Names, kinds and contents below the directory."""
    digest = hashlib.sha256()
    for root, directories, files in os.walk(directory):
        directories.sort()
        for name in sorted([*directories, *files]):
            path = Path(root) / name
            digest.update(f"{path.relative_to(directory)}\n".encode())
            if path.is_file():
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def check_refused(context: Context, broker: Broker, overrides: Mapping[str, str], named: str) -> None:
    """Exit code 1, one error that names what is wrong, nothing changed on disk."""
    before = tree_hash(broker.data_directory)
    log_start = broker.log_size()
    broker.launch(overrides)
    code = broker.wait_exit(REFUSAL_SECONDS)
    words = broker.log_tail(40, log_start)
    check_equal(f"exit code ({words})", code, 1)
    check(re.search(named, words, re.IGNORECASE), f"the error does not name {named!r}:\n{words}")
    errors = [line for line in words.splitlines() if re.search(r"^ottla: |\berror\b", line, re.IGNORECASE)]
    check(len(errors) == 1, f"{len(errors)} lines speak of what is wrong:\n{words}")
    check("panicked" not in words, f"a panic:\n{words}")
    check_equal("what is on disk", tree_hash(broker.data_directory), before)


def populated(context: Context) -> None:
    """A data directory with something in it, the broker stopped."""
    start(context)
    context.create_topic("t")
    Produce("t", TEN).run(context)
    stop_cleanly(context)


def refusal(overrides: Mapping[str, str], named: str):  # type: ignore[no-untyped-def]
    def body(context: Context) -> None:
        populated(context)
        check_refused(context, context.broker, overrides, named)
        start(context)
        Read("t").run(context)

    return body


def taken_port(context: Context) -> None:
    populated(context)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((context.broker.host, context.broker.port))
        other.listen()
        check_refused(context, context.broker, {}, str(context.broker.port))
    start(context)
    Read("t").run(context)


def data_in_use(context: Context) -> None:
    """A second broker on the same directory; the first goes on undisturbed."""
    start(context)
    context.create_topic("t")
    Produce("t", TEN).run(context)
    assert context.factory is not None
    second = context.factory.create(context.directory / "second")
    try:
        second.launch({"data-dir": str(context.broker.data_directory)})
        code = second.wait_exit(REFUSAL_SECONDS)
        words = second.log_tail()
        check_equal(f"exit code ({words})", code, 1)
        check(
            re.search(r"in use|lock", words, re.IGNORECASE),
            f"the error does not say that the directory is in use:\n{words}",
        )
    finally:
        second.close()
    Produce("t", TEN).run(context)
    Read("t").run(context)


def fresh_refusal(context: Context) -> None:
    """A bad value and no data yet: not even a directory is made."""
    broker = context.broker
    broker.launch({"log.segment.bytes": "many"})
    check_equal("exit code", broker.wait_exit(REFUSAL_SECONDS), 1)
    check(not broker.data_directory.exists(), f"{broker.data_directory} was made")


SURVIVAL = [
    Program("records", records_survive, frozenset({"zstd"})),
    Program("killed-and-back", killed_and_back),
    Program("committed-offsets", offsets_survive, frozenset({"group", "commit"})),
    Program("members-return", members_return, frozenset({"group", "reconnect"})),
    Program("topics", topics_survive, frozenset({"admin"})),
    Program("idempotent-producer", idempotent_producer_goes_on, frozenset({"admin", "idempotence", "reconnect"})),
]

REFUSALS = [
    Program("refused-other-node-id", refusal({"node.id": "77"}, "node.id|node id")),
    Program("refused-bad-number", refusal({"log.segment.bytes": "many"}, r"log\.segment\.bytes")),
    Program("refused-below-bound", refusal({"num.partitions": "0"}, r"num\.partitions")),
    Program("refused-bad-listener", refusal({"listeners": "PLAINTEXT://nowhere"}, "listeners")),
    Program("refused-tls-listener", refusal({"listeners": "SSL://127.0.0.1:0"}, "SSL")),
    Program("refused-authorizer", refusal({"authorizer.class.name": "x.Y"}, r"authorizer\.class\.name")),
    Program("refused-taken-port", taken_port),
    Program("refused-data-in-use", data_in_use),
    Program("refused-before-any-data", fresh_refusal),
]

SUITES = (
    Suite("restart", SURVIVAL, own_brokers=True, side_by_side=True, ci=frozenset({"killed-and-back"})),
    Suite(
        "restart",
        REFUSALS,
        clients=(WIRE,),
        own_brokers=True,
        only_ottla=frozenset(program.name for program in REFUSALS),
    ),
)
