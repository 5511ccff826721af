"""The driver of kafka-python."""

import threading
import time
from typing import Any

import kafka
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.structs import OffsetAndMetadata

from ..record import decode_bytes
from .kafka_python_admin import CAPABILITIES as ADMIN_CAPABILITIES
from .kafka_python_admin import COMMON, AdminFunctions
from .kept import Kept, PacedLoad, translated, truth
from .pure_python import Held, consumer_settings, error_name, producer_settings, record_json
from .serve import DriverError, serve

SECONDS = 50.0

# No static members: a member that comes back makes this library's group rebalance, with Apache Kafka as well.
CAPABILITIES = [
    "assign",
    "commit",
    "empties",
    "eof",
    "group",
    "idempotence",
    "load",
    "log-append-time",
    "lz4",
    "name-errors",
    "offset-reset",
    "offsets-of-acks",
    "ordered-headers",
    "range",
    "reconnect",
    "roundrobin",
    "seek",
    "snappy",
    "timestamps",
    "zstd",
]

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}

PRODUCER_SETTINGS = producer_settings(batch_size=("batch_size", int), max_block_ms=("max_block_ms", int))
CONSUMER_SETTINGS = consumer_settings(ASSIGNORS, allow_auto_create_topics=("allow_auto_create_topics", truth))


class KafkaPythonDriver(Held, AdminFunctions):
    def __init__(self) -> None:
        self._bootstrap = ""
        self._lock = threading.Lock()
        self._producers: dict[tuple[tuple[str, str], ...], KafkaProducer] = {}
        self._consumers: dict[str, PolledConsumer] = {}
        self._loads: dict[str, Load] = {}

    def hello(self, bootstrap: str) -> dict[str, Any]:
        self._bootstrap = bootstrap
        version = f"kafka-python {kafka.__version__}"
        return {"client": "kafka-python", "version": version, "capabilities": [*CAPABILITIES, *ADMIN_CAPABILITIES]}

    def produce(self, topic: str, records: list[dict[str, Any]], config: dict[str, str]) -> dict[str, Any]:
        producer = self._producer(config)
        sent_ns = time.monotonic_ns()
        waiting: list[Any] = []
        for record in records:
            try:
                waiting.append(
                    producer.send(
                        topic,
                        value=decode_bytes(record["value"]),
                        key=decode_bytes(record["key"]),
                        headers=[(name, decode_bytes(value)) for name, value in record["headers"]],
                        partition=record["partition"],
                        timestamp_ms=record["timestamp"],
                    )
                )
            except (kafka.errors.KafkaError, AssertionError, ValueError) as error:
                waiting.append(error)
        producer.flush(SECONDS)
        results = [self._result(each, record["partition"]) for each, record in zip(waiting, records, strict=True)]
        if any("error" in each for each in results):
            # An idempotent producer of this library fails everything after what was refused: the next one is new.
            with self._lock:
                self._producers.pop(tuple(sorted(config.items())), None)
            producer.close(0)
        return {"results": results, "sent_ns": sent_ns, "acked_ns": time.monotonic_ns()}

    @staticmethod
    def _result(sent: Any, partition: int) -> dict[str, Any]:
        try:
            if isinstance(sent, (AssertionError, ValueError)):
                # The library looks at names and partitions before it sends anything.
                named = "INVALID_TOPIC_EXCEPTION" if "opic" in str(sent) and "artition" not in str(sent) else ""
                raise DriverError(named or "UNKNOWN_TOPIC_OR_PARTITION", str(sent))
            if isinstance(sent, Exception):
                raise sent
            metadata = sent.get(SECONDS)
        except DriverError as error:
            return {"error": error.name, "message": str(error)}
        except Exception as error:  # whatever the library says of this record
            return {"error": error_name(error), "message": str(error)}
        return {"partition": partition, "offset": metadata.offset}

    def read(
        self,
        topic: str,
        partitions: list[int],
        start: dict[str, Any],
        count: int | None,
        config: dict[str, str],
        timeout_s: float,
    ) -> dict[str, Any]:
        consumer = self._reader(config)
        try:
            chosen = [TopicPartition(topic, each) for each in partitions]
            consumer.assign(chosen)
            self._start(consumer, chosen, start)
            # Read up to where the partitions end now: no event tells.
            ends = consumer.end_offsets(chosen) if count is None else {}
            records: list[dict[str, Any]] = []
            until = time.monotonic() + timeout_s
            while len(records) < count if count is not None else not self._at(consumer, ends):
                if time.monotonic() > until:
                    raise DriverError("READ_TIMEOUT", f"{len(records)} records")
                for batch in consumer.poll(timeout_ms=100).values():
                    records.extend(map(record_json, batch))
            return {"records": records, "ended": sorted(partitions) if count is None else []}
        finally:
            consumer.close()

    @staticmethod
    def _at(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        return all(consumer.position(partition) == end for partition, end in ends.items())

    @staticmethod
    def _start(consumer: KafkaConsumer, partitions: list[TopicPartition], start: dict[str, Any]) -> None:
        match start["at"]:
            case "beginning":
                consumer.seek_to_beginning(*partitions)
            case "end":
                consumer.seek_to_end(*partitions)
            case "offset":
                for each in partitions:
                    consumer.seek(each, start["value"])
            case "timestamp":
                found = consumer.offsets_for_times({each: start["value"] for each in partitions})
                for each, offset in found.items():
                    if offset is None:
                        consumer.seek_to_end(each)
                    else:
                        consumer.seek(each, offset.offset)

    def offsets(self, topic: str, partition: int, at: str, timestamp: int | None = None) -> int:
        asked = TopicPartition(topic, partition)
        consumer = self._reader({})
        try:
            if at == "timestamp":
                found = consumer.offsets_for_times({asked: timestamp})[asked]
                return -1 if found is None else found.offset
            listed = consumer.beginning_offsets([asked]) if at == "beginning" else consumer.end_offsets([asked])
            return listed[asked]
        finally:
            consumer.close()

    def consumer_open(self, id: str, **args: Any) -> None:
        self._consumers[id] = PolledConsumer(self._bootstrap, **args)

    def consumer_do(self, id: str, action: str, **args: Any) -> Any:
        return self._consumers[id].do(action, args)

    def consumer_close(self, id: str) -> None:
        self._consumers.pop(id).close()

    def load_start(self, id: str, **args: Any) -> None:
        self._loads[id] = Load(self._bootstrap, id, **args)

    def load_stop(self, id: str) -> dict[str, Any]:
        return self._loads.pop(id).stop()

    def _producer(self, config: dict[str, str]) -> KafkaProducer:
        key = tuple(sorted(config.items()))
        with self._lock:
            if key not in self._producers:
                own = translated(config, PRODUCER_SETTINGS)
                self._producers[key] = KafkaProducer(bootstrap_servers=self._bootstrap, **{**COMMON, **own})
            return self._producers[key]

    def _reader(self, config: dict[str, str]) -> KafkaConsumer:
        own = {"auto_offset_reset": "none", "enable_auto_commit": False, **translated(config, CONSUMER_SETTINGS)}
        return KafkaConsumer(bootstrap_servers=self._bootstrap, **{**COMMON, **own})


class PolledConsumer(ConsumerRebalanceListener):
    """Polled all the time in a thread of its own; actions run between polls, since the library is not thread-safe."""

    def __init__(
        self,
        bootstrap: str,
        config: dict[str, str],
        group: str | None = None,
        topics: list[str] | None = None,
        assign: list[list[Any]] | None = None,
    ):
        self.kept = Kept()
        own = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **translated(config, CONSUMER_SETTINGS)}
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, **{**COMMON, **own})
        self._in_group = topics is not None
        self._turn = threading.Lock()
        self._waiting = threading.Semaphore(1)
        self._closing = threading.Event()
        if topics is not None:
            self._consumer.subscribe(topics, listener=self)
        else:
            starts = {TopicPartition(topic, partition): offset for topic, partition, offset in assign or []}
            self._consumer.assign(list(starts))
            for partition, offset in starts.items():
                if offset == -1:
                    self._consumer.seek_to_end(partition)
                elif offset == -2:
                    self._consumer.seek_to_beginning(partition)
                else:
                    self._consumer.seek(partition, offset)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._waiting:
                pass  # whoever wants an action goes first
            with self._turn:
                try:
                    if self._in_group:
                        self._rejoin_if_forgotten()
                    polled = self._consumer.poll(timeout_ms=50)
                except Exception as error:  # kept for whoever asks
                    self.kept.fail(error_name(error))
                    continue
                self.kept.owns((each.topic, each.partition) for each in self._consumer.assignment())
            for batch in polled.values():
                for record in batch:
                    self.kept.add(record_json(record))
        self._consumer.close()

    def _rejoin_if_forgotten(self) -> None:
        """kafka-python 3.0.12 never takes an assignment whose answer arrives between two polls: the group is stable, its
        member sends heartbeats and owns nothing, for ever. It joins once more."""
        coordinator = self._consumer._coordinator
        join = coordinator._join_task
        if join is not None and join.is_done and not coordinator.need_rejoin():
            coordinator.request_rejoin()

    def do(self, action: str, args: dict[str, Any]) -> Any:
        with self._waiting, self._turn:
            return getattr(self, f"_do_{action}")(**args)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(SECONDS)

    def _do_commit(self, mode: str, offsets: list[list[Any]] | None = None) -> None:
        chosen = None
        if offsets is not None:
            chosen = {TopicPartition(topic, number): OffsetAndMetadata(at, "", -1) for topic, number, at in offsets}
        if mode == "sync":
            self._consumer.commit(chosen)
        else:
            self._consumer.commit_async(chosen)

    def _do_committed(self, partitions: list[list[Any]]) -> list[list[Any]]:
        found = [[topic, number, self._consumer.committed(TopicPartition(topic, number))] for topic, number in partitions]
        return [[topic, number, -1 if at is None else at] for topic, number, at in found]

    def _do_seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition), offset)

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.kept.rebalanced("assigned", [(each.topic, each.partition) for each in assigned])

    def on_partitions_revoked(self, revoked: Any) -> None:
        if revoked:
            self.kept.rebalanced("revoked", [(each.topic, each.partition) for each in revoked])

    def on_partitions_lost(self, lost: Any) -> None:
        if lost:
            self.kept.rebalanced("lost", [(each.topic, each.partition) for each in lost])


class Load:
    """An idempotent producer that goes on until stopped."""

    def __init__(self, bootstrap: str, name: str, topic: str, **args: Any):
        self.paced = PacedLoad(name, **args)
        self._topic = topic
        self._stopping = threading.Event()
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            delivery_timeout_ms=600_000,
            max_block_ms=600_000,
            **COMMON,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        self._stopping.set()
        self._thread.join()
        self._producer.flush(100)
        self._producer.close()
        state = self.paced.state()
        self.paced.close()
        return state

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self.paced.full() or (pause := self.paced.wait_s()) > 0:
                time.sleep(0.005 if self.paced.full() else pause)
                if self.paced.full():
                    continue
            partition, sequence, value = self.paced.next()
            sent = self._producer.send(self._topic, value=value, partition=partition)
            sent.add_callback(self._acknowledged, partition, sequence)
            sent.add_errback(self._failed, partition, sequence)

    def _acknowledged(self, partition: int, sequence: int, metadata: Any) -> None:
        self.paced.done(partition, sequence, metadata.offset, None)

    def _failed(self, partition: int, sequence: int, error: Exception) -> None:
        self.paced.done(partition, sequence, None, f"{error_name(error)}: {error}")


if __name__ == "__main__":
    driver = KafkaPythonDriver()
    operations = {name: getattr(driver, name) for name in dir(driver) if not name.startswith("_")}
    serve(operations, lambda error: DriverError(error_name(error), str(error)))
