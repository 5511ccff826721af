"""Many records through confluent-kafka: lines of a file, digests of what is read, a load that outlives kills."""

import hashlib
import threading
import time
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from .librdkafka import kafka_error_name, settings
from .serve import DriverError

FLUSH_SECONDS = 300.0


def produce_lines(bootstrap: str, path: str, topic: str, config: dict[str, str]) -> dict[str, Any]:
    """Every line of the file, without its newline, as one record of partition 0."""
    failures: list[str] = []
    acked = 0

    def delivered(error: Any, _message: Any) -> None:
        nonlocal acked
        if error is None:
            acked += 1
        else:
            failures.append(kafka_error_name(error.code(), error.name()))

    # The queue holds what the file holds at most; a full queue waits for deliveries.
    producer = Producer({**settings(config), "bootstrap.servers": bootstrap, "linger.ms": "20"})
    with open(path, "rb") as lines:
        for line in lines:
            while True:
                try:
                    producer.produce(topic, value=line[:-1], partition=0, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
    if producer.flush(FLUSH_SECONDS):
        raise DriverError("DELIVERY_TIMEOUT", "records left in the queue")
    if failures:
        raise DriverError(failures[0], f"{len(failures)} of {acked + len(failures)} records were refused")
    return {"count": acked}


def digest(bootstrap: str, topic: str, config: dict[str, str]) -> dict[str, Any]:
    """The SHA-256 of partition 0's values, each followed by a newline, in order."""
    hashed = hashlib.sha256()
    count = 0
    for message in _until_end(bootstrap, topic, [0], config):
        hashed.update(message.value())
        hashed.update(b"\n")
        if message.offset() != count:
            raise DriverError("OFFSET_GAP", f"record {count} has the offset {message.offset()}")
        count += 1
    return {"count": count, "sha256": hashed.hexdigest()}


def dump(bootstrap: str, topic: str, partitions: int, path: str) -> dict[str, Any]:
    """Writes `partition offset value` for every record."""
    count = 0
    with open(path, "wb") as output:
        for message in _until_end(bootstrap, topic, list(range(partitions)), {}):
            output.write(b"%d %d %s\n" % (message.partition(), message.offset(), message.value()))
            count += 1
    return {"count": count}


def _until_end(bootstrap: str, topic: str, partitions: list[int], config: dict[str, str]) -> Any:
    consumer = Consumer(
        {
            **settings(config),
            "bootstrap.servers": bootstrap,
            "group.id": "compat-bulk",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    try:
        consumer.assign([TopicPartition(topic, each, confluent_kafka.OFFSET_BEGINNING) for each in partitions])
        ended: set[int] = set()
        while len(ended) < len(partitions):
            for message in consumer.consume(5000, timeout=0.2):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


class Load:
    """A producer, idempotent unless told otherwise, that goes on until stopped and writes `partition sequence offset`
    per acknowledgement.

    A record's value is `producer sequence`; each partition has its own sequence.
    """

    def __init__(
        self,
        bootstrap: str,
        name: str,
        topic: str,
        partitions: int,
        ack_path: str,
        records_per_s: int,
        size: int,
        acks: str = "all",
        idempotence: bool = True,
        in_flight: int = 5,
    ):
        self._name = name
        self._topic = topic
        self._partitions = partitions
        self._records_per_s = records_per_s
        self._padding = "." * size
        self._acks = open(ack_path, "w", encoding="ascii")
        self._sent = 0
        self._acked = 0
        self._failures: list[str] = []
        self._fatal: list[str] = []
        self._stopping = threading.Event()
        self._producer = Producer(
            {
                **settings({}),
                "bootstrap.servers": bootstrap,
                "acks": acks,
                "enable.idempotence": idempotence,
                "max.in.flight.requests.per.connection": in_flight,
                "linger.ms": 2,
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": 20000,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 200,
                "error_cb": self._error,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def state(self) -> dict[str, Any]:
        return {"sent": self._sent, "acked": self._acked, "failures": (self._fatal + self._failures)[:5]}

    def stop(self) -> dict[str, Any]:
        self._stopping.set()
        self._thread.join()
        left = self._producer.flush(FLUSH_SECONDS)
        self._acks.close()
        return {**self.state(), "left": left}

    def _run(self) -> None:
        sequences = [0] * self._partitions
        began = time.monotonic()
        while not self._stopping.is_set() and not self._fatal:
            due = int((time.monotonic() - began) * self._records_per_s) - self._sent
            for _ in range(due):
                partition = self._sent % self._partitions
                value = f"{self._name} {sequences[partition]} {self._padding}"
                try:
                    self._producer.produce(
                        self._topic, value=value, partition=partition, on_delivery=self._delivered(sequences[partition])
                    )
                except BufferError:
                    # While the broker is away the queue is full: the pace is made up from now on, not caught up.
                    began = time.monotonic() - self._sent / self._records_per_s
                    break
                sequences[partition] += 1
                self._sent += 1
            self._producer.poll(0.005)

    def _delivered(self, sequence: int) -> Any:
        def report(error: Any, message: Any) -> None:
            if error is None:
                self._acked += 1
                self._acks.write(f"{message.partition()} {sequence} {message.offset()}\n")
            else:
                self._failures.append(f"sequence {sequence}: {kafka_error_name(error.code(), error.name())}")

        return report

    def _error(self, error: Any) -> None:
        if error.fatal():
            self._fatal.append(f"fatal {kafka_error_name(error.code(), error.name())}: {error.str()}")
