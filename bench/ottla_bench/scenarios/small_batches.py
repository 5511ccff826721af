"""Many small requests: no linger, 100-byte records, and few of them in a batch."""

from .session import Session

SCENARIO = "small-batches"


def name(records_each: int) -> str:
    return f"librdkafka, 100 B, linger 0, {records_each} a batch"


def run(session: Session) -> None:
    for records_each in (1, 10):
        cell = name(records_each)
        with session.cell(SCENARIO, cell), session.topic() as topic:
            settings = {"linger.ms": "0", "batch.num.messages": str(records_each), "acks": "all"}
            _, metrics = session.measure(
                lambda: session.generators.load_produce(
                    session.bootstrap, topic, 100, session.depth.small_batches, settings
                )[0]
            )
            wanted = ("records/broker CPU s", "records/s", "RSS after MiB")
            session.record(SCENARIO, cell, {metric: metrics[metric] for metric in wanted})
