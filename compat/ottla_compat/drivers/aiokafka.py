"""The driver of aiokafka: its own event loop in a thread, operations handed over to it."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from ..record import decode_bytes
from .aiokafka_admin import CAPABILITIES as ADMIN_CAPABILITIES
from .aiokafka_admin import AdminFunctions
from .kept import Kept, PacedLoad, translated
from .pure_python import Held, consumer_settings, error_name, producer_settings, record_json
from .serve import DriverError, serve

SECONDS = 50.0

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
    "offset-reset",
    "offsets-of-acks",
    "ordered-headers",
    "range",
    "reconnect",
    "roundrobin",
    "seek",
    "snappy",
    "static",
    "timestamps",
    "zstd",
]

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}

PRODUCER_SETTINGS = producer_settings(batch_size=("max_batch_size", int), max_block_ms=None)
CONSUMER_SETTINGS = consumer_settings(ASSIGNORS, allow_auto_create_topics=None)


class AiokafkaDriver(Held, AdminFunctions):
    def __init__(self) -> None:
        self._bootstrap = ""
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._producers: dict[tuple[tuple[str, str], ...], AIOKafkaProducer] = {}
        self._consumers: dict[str, Member] = {}
        self._loads: dict[str, Load] = {}
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def hello(self, bootstrap: str) -> dict[str, Any]:
        self._bootstrap = bootstrap
        capabilities = [*CAPABILITIES, *ADMIN_CAPABILITIES]
        return {"client": "aiokafka", "version": f"aiokafka {aiokafka.__version__}", "capabilities": capabilities}

    def produce(self, topic: str, records: list[dict[str, Any]], config: dict[str, str]) -> dict[str, Any]:
        return self._run(self._produce(topic, records, config))

    async def _produce(self, topic: str, records: list[dict[str, Any]], config: dict[str, str]) -> dict[str, Any]:
        producer = await self._producer(config)
        sent_ns = time.monotonic_ns()
        waiting: list[Any] = []
        for record in records:
            try:
                waiting.append(
                    await producer.send(
                        topic,
                        value=decode_bytes(record["value"]),
                        key=decode_bytes(record["key"]),
                        headers=[(name, decode_bytes(value)) for name, value in record["headers"]],
                        partition=record["partition"],
                        timestamp_ms=record["timestamp"],
                    )
                )
            except AssertionError as error:
                # The library learnt from metadata that there is no such partition.
                waiting.append(DriverError("UNKNOWN_TOPIC_OR_PARTITION", str(error)))
            except ValueError as error:
                waiting.append(DriverError("INVALID_TOPIC_EXCEPTION", str(error)))
            except KafkaError as error:
                waiting.append(DriverError(error_name(error), str(error)))
        results = []
        for each, record in zip(waiting, records, strict=True):
            try:
                if isinstance(each, DriverError):
                    raise each
                metadata = await asyncio.wait_for(each, SECONDS)
                results.append({"partition": record["partition"], "offset": getattr(metadata, "offset", None)})
            except DriverError as error:
                results.append({"error": error.name, "message": str(error)})
            except (KafkaError, TimeoutError) as error:
                results.append({"error": error_name(error), "message": str(error)})
        return {"results": results, "sent_ns": sent_ns, "acked_ns": time.monotonic_ns()}

    async def _producer(self, config: dict[str, str]) -> AIOKafkaProducer:
        key = tuple(sorted(config.items()))
        if key not in self._producers:
            own = translated(config, PRODUCER_SETTINGS)
            producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, **own)
            await producer.start()
            self._producers[key] = producer
        return self._producers[key]

    def read(
        self,
        topic: str,
        partitions: list[int],
        start: dict[str, Any],
        count: int | None,
        config: dict[str, str],
        timeout_s: float,
    ) -> dict[str, Any]:
        return self._run(self._read(topic, partitions, start, count, config, timeout_s))

    async def _read(
        self,
        topic: str,
        partitions: list[int],
        start: dict[str, Any],
        count: int | None,
        config: dict[str, str],
        timeout_s: float,
    ) -> dict[str, Any]:
        consumer = await self._reader(config)
        try:
            chosen = [TopicPartition(topic, each) for each in partitions]
            consumer.assign(chosen)
            await self._start(consumer, chosen, start)
            # Read up to where the partitions end now: no event tells.
            ends = await consumer.end_offsets(chosen) if count is None else {}
            records: list[dict[str, Any]] = []
            until = time.monotonic() + timeout_s
            while len(records) < count if count is not None else not await self._at(consumer, ends):
                if time.monotonic() > until:
                    raise DriverError("READ_TIMEOUT", f"{len(records)} records")
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    records.extend(map(record_json, batch))
            return {"records": records, "ended": sorted(partitions) if count is None else []}
        finally:
            await consumer.stop()

    @staticmethod
    async def _at(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await consumer.position(partition) != end:
                return False
        return True

    @staticmethod
    async def _start(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], start: dict[str, Any]) -> None:
        match start["at"]:
            case "beginning":
                await consumer.seek_to_beginning(*partitions)
            case "end":
                await consumer.seek_to_end(*partitions)
            case "offset":
                for each in partitions:
                    consumer.seek(each, start["value"])
            case "timestamp":
                found = await consumer.offsets_for_times({each: start["value"] for each in partitions})
                for each, offset in found.items():
                    if offset is None:
                        await consumer.seek_to_end(each)
                    else:
                        consumer.seek(each, offset.offset)

    async def _reader(self, config: dict[str, str]) -> AIOKafkaConsumer:
        own = {"auto_offset_reset": "none", "enable_auto_commit": False, **translated(config, CONSUMER_SETTINGS)}
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, **own)
        await consumer.start()
        return consumer

    def offsets(self, topic: str, partition: int, at: str, timestamp: int | None = None) -> int:
        return self._run(self._offsets(TopicPartition(topic, partition), at, timestamp))

    async def _offsets(self, asked: TopicPartition, at: str, timestamp: int | None) -> int:
        consumer = await self._reader({})
        try:
            if at == "timestamp":
                found = (await consumer.offsets_for_times({asked: timestamp}))[asked]
                return -1 if found is None else found.offset
            listed = await (consumer.beginning_offsets if at == "beginning" else consumer.end_offsets)([asked])
            return listed[asked]
        finally:
            await consumer.stop()

    def consumer_open(self, id: str, **args: Any) -> None:
        member = Member()
        self._run(member.open(self._bootstrap, **args))
        self._consumers[id] = member

    def consumer_do(self, id: str, action: str, **args: Any) -> Any:
        return self._run(getattr(self._consumers[id], f"do_{action}")(**args))

    def consumer_close(self, id: str) -> None:
        self._run(self._consumers.pop(id).close())

    def load_start(self, id: str, **args: Any) -> None:
        load = Load(id, **args)
        self._run(load.open(self._bootstrap))
        self._loads[id] = load

    def load_stop(self, id: str) -> dict[str, Any]:
        return self._run(self._loads.pop(id).stop())


class Member(ConsumerRebalanceListener):
    """A consumer that stays, of a group or of partitions; it is polled all the time."""

    def __init__(self) -> None:
        self.kept = Kept()
        self._consumer: AIOKafkaConsumer | None = None
        self._polling: asyncio.Task[None] | None = None

    async def open(
        self,
        bootstrap: str,
        config: dict[str, str],
        group: str | None = None,
        topics: list[str] | None = None,
        assign: list[list[Any]] | None = None,
    ) -> None:
        own = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **translated(config, CONSUMER_SETTINGS)}
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, retry_backoff_ms=50, metadata_max_age_ms=5000, **own
        )
        if topics is not None:
            consumer.subscribe(topics, listener=self)
        await consumer.start()
        if assign is not None:
            starts = {TopicPartition(topic, partition): offset for topic, partition, offset in assign}
            consumer.assign(list(starts))
            for partition, offset in starts.items():
                if offset == -1:
                    await consumer.seek_to_end(partition)
                elif offset == -2:
                    await consumer.seek_to_beginning(partition)
                else:
                    consumer.seek(partition, offset)
        self._polling = asyncio.create_task(self._poll(consumer))

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                polled = await consumer.getmany(timeout_ms=50)
            except KafkaError as error:
                self.kept.fail(error_name(error))
                await asyncio.sleep(0.05)
                continue
            for batch in polled.values():
                for record in batch:
                    self.kept.add(record_json(record))

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        if self._consumer is not None:
            await self._consumer.stop()

    async def do_commit(self, mode: str, offsets: list[list[Any]] | None = None) -> None:
        chosen = None
        if offsets is not None:
            chosen = {TopicPartition(topic, number): at for topic, number, at in offsets}
        committed = self._consumer.commit(chosen)  # type: ignore[union-attr]
        if mode == "sync":
            await committed
        else:
            self._committing = asyncio.create_task(committed)

    async def do_committed(self, partitions: list[list[Any]]) -> list[list[Any]]:
        found = []
        for topic, number in partitions:
            at = await self._consumer.committed(TopicPartition(topic, number))  # type: ignore[union-attr]
            found.append([topic, number, -1 if at is None else at])
        return found

    async def do_seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition), offset)  # type: ignore[union-attr]

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.kept.rebalanced("assigned", [(each.topic, each.partition) for each in assigned])

    async def on_partitions_revoked(self, revoked: Any) -> None:
        if revoked:
            self.kept.rebalanced("revoked", [(each.topic, each.partition) for each in revoked])


class Load:
    """An idempotent producer that goes on until stopped."""

    def __init__(self, name: str, topic: str, **args: Any):
        self.paced = PacedLoad(name, **args)
        self._topic = topic
        self._stopping = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._running: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    async def open(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=2, retry_backoff_ms=50, request_timeout_ms=20000
        )
        await self._producer.start()
        self._running = asyncio.create_task(self._run(self._producer))

    async def stop(self) -> dict[str, Any]:
        self._stopping.set()
        if self._running is not None:
            await self._running
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=100)
        if self._producer is not None:
            await self._producer.stop()
        state = self.paced.state()
        self.paced.close()
        return state

    async def _run(self, producer: AIOKafkaProducer) -> None:
        while not self._stopping.is_set():
            if self.paced.full():
                await asyncio.sleep(0.005)
                continue
            await asyncio.sleep(self.paced.wait_s())
            partition, sequence, value = self.paced.next()
            sent = await producer.send(self._topic, value=value, partition=partition)
            task = asyncio.create_task(self._told(sent, partition, sequence))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _told(self, sent: Any, partition: int, sequence: int) -> None:
        try:
            metadata = await sent
            self.paced.done(partition, sequence, metadata.offset, None)
        except KafkaError as error:
            self.paced.done(partition, sequence, None, f"{error_name(error)}: {error}")


if __name__ == "__main__":
    driver = AiokafkaDriver()
    operations = {name: getattr(driver, name) for name in dir(driver) if not name.startswith("_")}
    serve(operations, lambda error: DriverError(error_name(error), str(error)))
