"""Many records through each codec, out again with the same hash: realistic JSON, and prose of a Debian package.

What one client wrote another reads: the reader is the next of the clients.
"""

import hashlib
import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import install
from ..failure import check_equal
from ..scenario import Context, Program, Suite

# The others are compared on fewer records, in the suite cross-reads.
CLIENTS = ("python", "java", "kcat")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SECONDS = 400.0

SERVICES = ("checkout", "search", "cart", "payments", "catalogue", "mail", "recommendations")
LEVELS = ("debug", "info", "info", "info", "warn", "error")
PATHS = ("/", "/cart", "/cart/items", "/search", "/product", "/login", "/orders", "/orders/history")


def json_lines(count: int, seed: int) -> Iterator[bytes]:
    """Log events as services write them: few shapes, many values, a text now and then."""
    chance = random.Random(seed)
    users = [f"user-{chance.getrandbits(32):08x}" for _ in range(5000)]
    now_ms = 1_790_000_000_000
    for number in range(count):
        now_ms += int(chance.expovariate(0.2))
        event = {
            "at": now_ms,
            "id": f"{chance.getrandbits(64):016x}",
            "service": chance.choice(SERVICES),
            "level": chance.choice(LEVELS),
            "user": users[int(chance.paretovariate(1.2)) % len(users)],
            "path": chance.choice(PATHS),
            "took_ms": round(chance.lognormvariate(3, 1), 2),
        }
        if number % 10 == 0:
            event["order"] = {"items": [chance.randrange(10_000) for _ in range(chance.randrange(1, 6))], "paid": True}
        yield json.dumps(event, separators=(",", ":")).encode() + b"\n"


def text_lines(most: int) -> Iterator[bytes]:
    """The non-empty lines of the documentation, as many as there are or as are wanted."""
    lines = (line for path in install.public_text() for line in path.read_bytes().split(b"\n") if line)
    for line in itertools.islice(lines, most):
        yield line + b"\n"


@dataclass(frozen=True)
class Source:
    """A file of lines, each a record."""

    path: Path
    count: int
    sha256: str


def written(path: Path, lines: Iterable[bytes]) -> Source:
    digest = hashlib.sha256()
    count = 0
    with open(path, "wb") as output:
        for line in lines:
            output.write(line)
            digest.update(line)
            count += 1
    return Source(path, count, digest.hexdigest())


_sources: dict[str, Source] = {}


def source(context: Context, kind: str) -> Source:
    """This run's lines, written once."""
    if kind not in _sources:
        most, seed = context.options.bulk_records, context.options.seed
        lines = json_lines(most, seed) if kind == "json" else text_lines(most)
        _sources[kind] = written(context.directory.parent / f"{kind}.lines", lines)
    return _sources[kind]


def through(kind: str, codec: str) -> Program:
    def body(context: Context) -> None:
        lines = source(context, kind)
        topic = context.create_topic("t")
        reader = CLIENTS[(CLIENTS.index(context.client) + 1) % len(CLIENTS)]
        began = time.monotonic()
        sent = context.driver().call(
            "produce_lines", wait_s=SECONDS, path=str(lines.path), topic=topic, config={"compression.type": codec}
        )
        produced = time.monotonic()
        check_equal("records acknowledged", sent["count"], lines.count)
        got = context.driver(client=reader).call("digest", wait_s=SECONDS, topic=topic, config={})
        done = time.monotonic()
        check_equal("records read", got["count"], lines.count)
        check_equal(f"SHA-256 of what {reader} read", got["sha256"], lines.sha256)
        context.admin().call("delete_topic", name=topic)
        context.note(f"{lines.count} records: in {produced - began:.1f} s, out by {reader} {done - produced:.1f} s")

    return Program(f"{kind}-{codec}", body)


SUITE = Suite("bulk", [through(kind, codec) for kind in ("json", "text") for codec in CODECS], CLIENTS)
