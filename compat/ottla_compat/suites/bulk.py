"""Many records through each codec, out again with the same hash: realistic JSON, and prose of a Debian package.

What one client wrote another reads: the reader is the next of the clients.
"""

import hashlib
import json
import random
import time
from pathlib import Path
from typing import Iterable, Iterator

from .. import install
from ..driver import CLIENTS
from ..failure import check_equal
from ..scenario import Context, Program, Suite

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


def text_lines(count: int) -> Iterator[bytes]:
    """Non-empty lines of documentation, from the beginning again when it is at its end."""
    lines = [line for line in b"".join(path.read_bytes() for path in install.public_text()).split(b"\n") if line]
    for number in range(count):
        yield lines[number % len(lines)] + b"\n"


def written(path: Path, lines: Iterable[bytes]) -> str:
    """Writes the lines; their SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as output:
        for line in lines:
            output.write(line)
            digest.update(line)
    return digest.hexdigest()


_sources: dict[tuple[str, int, int], tuple[Path, str]] = {}


def source(context: Context, kind: str) -> tuple[Path, str]:
    """The file of this run's lines, made once."""
    count, seed = context.options.bulk_records, context.options.seed
    key = (kind, count, seed)
    if key not in _sources or not _sources[key][0].exists():
        path = context.directory.parent / f"{kind}.lines"
        lines = json_lines(count, seed) if kind == "json" else text_lines(count)
        _sources[key] = (path, written(path, lines))
    return _sources[key]


def through(kind: str, codec: str) -> Program:
    def body(context: Context) -> None:
        path, expected = source(context, kind)
        count = context.options.bulk_records
        topic = context.create_topic("t")
        reader = CLIENTS[(CLIENTS.index(context.client) + 1) % len(CLIENTS)]
        began = time.monotonic()
        sent = context.driver().call(
            "produce_lines", wait_s=SECONDS, path=str(path), topic=topic, config={"compression.type": codec}
        )
        produced = time.monotonic()
        check_equal("records acknowledged", sent["count"], count)
        got = context.driver(client=reader).call("digest", wait_s=SECONDS, topic=topic, config={})
        done = time.monotonic()
        check_equal("records read", got["count"], count)
        check_equal(f"SHA-256 of what {reader} read", got["sha256"], expected)
        context.admin().call("delete_topic", name=topic)
        context.note(f"{count} records: in {produced - began:.1f} s, out by {reader} {done - produced:.1f} s")

    return Program(f"{kind}-{codec}", body)


SUITE = Suite("bulk", [through(kind, codec) for kind in ("json", "text") for codec in CODECS])
