"""A confluent-kafka consumer that is polled all the time in a thread of its own."""

import queue
import threading
import time
from concurrent.futures import Future
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, TopicPartition

from ..record import encode_bytes
from .librdkafka import kafka_error_name, settings

POLL_SECONDS = 0.05
ACTION_SECONDS = 40.0


def record_json(message: Any) -> dict[str, Any]:
    kind, timestamp = message.timestamp()
    kinds = {
        confluent_kafka.TIMESTAMP_CREATE_TIME: "CreateTime",
        confluent_kafka.TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime",
    }
    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_type": kinds.get(kind),
        "timestamp": timestamp,
        "key": encode_bytes(message.key()),
        "value": encode_bytes(message.value()),
        "headers": [[name, encode_bytes(value)] for name, value in message.headers() or []],
    }


class PolledConsumer:
    """Keeps what happened: records, assignments, errors. Actions run between polls."""

    def __init__(
        self,
        bootstrap: str,
        config: dict[str, str],
        group: str | None = None,
        topics: list[str] | None = None,
        assign: list[list[Any]] | None = None,
    ):
        self._consumer = Consumer(
            {
                **settings({"auto.offset.reset": "earliest", "enable.auto.commit": "false", **config}),
                "bootstrap.servers": bootstrap,
                "group.id": group or "compat-assigned",
            }
        )
        self._cooperative = "cooperative" in config.get("partition.assignment.strategy", "")
        self._lock = threading.Lock()
        self._records: list[dict[str, Any]] = []
        self._history: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._received = 0
        self._assignment: list[list[Any]] = []
        self._actions: queue.Queue[tuple[str, dict[str, Any], Future[Any]]] = queue.Queue()
        self._closing = threading.Event()
        if topics is not None:
            self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        else:
            self._consumer.assign([TopicPartition(*each) for each in assign or []])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def state(self) -> dict[str, Any]:
        with self._lock:
            return {
                "assignment": self._assignment,
                "history": list(self._history),
                "received": self._received,
                "errors": list(self._errors),
            }

    def take(self) -> list[dict[str, Any]]:
        with self._lock:
            taken, self._records = self._records, []
            return taken

    def do(self, action: str, args: dict[str, Any]) -> Any:
        future: Future[Any] = Future()
        self._actions.put((action, args, future))
        return future.result(ACTION_SECONDS)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(ACTION_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._act()
            message = self._consumer.poll(POLL_SECONDS)
            arrived_ns = time.monotonic_ns()
            assignment = sorted([tp.topic, tp.partition] for tp in self._consumer.assignment())
            with self._lock:
                self._assignment = assignment
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    self._received += 1
                    self._records.append({**record_json(message), "arrived_ns": arrived_ns})
                else:
                    self._errors.append(kafka_error_name(error.code(), error.name()))
        self._consumer.close()

    def _act(self) -> None:
        while True:
            try:
                action, args, future = self._actions.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(getattr(self, f"_do_{action}")(**args))
            except Exception as error:  # belongs to the action's caller
                future.set_exception(error)

    def _do_commit(self, mode: str, offsets: list[list[Any]] | None = None) -> None:
        points = {} if offsets is None else {"offsets": [TopicPartition(*each) for each in offsets]}
        if mode == "sync":
            for committed in self._consumer.commit(asynchronous=False, **points) or []:
                if committed.error is not None:
                    raise KafkaException(committed.error)
        else:
            self._consumer.commit(asynchronous=True, **points)

    def _do_committed(self, partitions: list[list[Any]]) -> list[list[Any]]:
        found = self._consumer.committed([TopicPartition(*each) for each in partitions], timeout=ACTION_SECONDS)
        return [[tp.topic, tp.partition, tp.offset if tp.offset >= 0 else -1] for tp in found]

    def _do_position(self, partitions: list[list[Any]]) -> list[list[Any]]:
        found = self._consumer.position([TopicPartition(*each) for each in partitions])
        return [[tp.topic, tp.partition, tp.offset] for tp in found]

    def _do_seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition, offset))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._remember("assigned", partitions)
        if self._cooperative:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._remember("revoked", partitions)
        if self._cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._remember("lost", partitions)
        if self._cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _remember(self, event: str, partitions: list[TopicPartition]) -> None:
        with self._lock:
            self._history.append({"event": event, "partitions": sorted([tp.topic, tp.partition] for tp in partitions)})
