"""What each client writes, every client reads as it was written: keys, headers and nulls, through each codec."""

from ..record import Record
from ..scenario import CLIENTS, Context, Program, Suite
from ..steps.records import CreateTopic, Produce, Read
from .produce_consume import CODECS, codec_needs, noise, text

RECORDS = [
    *[Record(b"value %d" % number, key=b"key %d" % number) for number in range(100)],
    Record(b"no key"),
    Record(None, key=b"no value"),
    Record(b"headers", key=b"headers", headers=(("first", b"1"), ("second", "zweitens ä".encode()))),
    Record(text(50_000), key=b"text"),
    Record(noise(50_000), key=b"noise"),
]
# A writer without `empties` may send null instead.
EMPTY = [Record(b"", key=b"empty value"), Record(b"empty key", key=b"")]


def through(codec: str) -> Program:
    needs = codec_needs(codec)

    def body(context: Context) -> None:
        CreateTopic("t").run(context)
        records = RECORDS + EMPTY if "empties" in context.driver().capabilities else RECORDS
        Produce("t", records, {"compression.type": codec, "linger.ms": "20"}).run(context)
        unable = []
        for reader in CLIENTS:
            if needs | Read.needs <= context.driver(client=reader).capabilities:
                try:
                    Read("t", by=reader).run(context)
                except Exception as error:
                    error.add_note(f"read by {reader}")
                    raise
            else:
                unable.append(reader)
        context.note(f"{len(CLIENTS) - len(unable)} readers" + (f", not {', '.join(unable)}" if unable else ""))

    return Program(codec, body, needs)


SUITE = Suite("cross-reads", [through(codec) for codec in CODECS], side_by_side=True, ci=frozenset({"zstd"}))
