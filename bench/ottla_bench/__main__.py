"""`bench/run`: measures Ottla and Apache Kafka in turn, or writes the table of a run that was made."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path

from . import document, install, machine, scenarios
from .brokers import KAFKA_VERSION, Brokers
from .depth import CI, FULL, QUICK, Depth
from .failure import CannotRun
from .generators import Generators
from .paths import BENCH, DOCUMENT, RESULTS
from .results import Recorder, Results
from .scenarios import warm_up


def main() -> int:
    arguments = _arguments()
    try:
        if arguments.scenarios[:1] == ["table"]:
            return _table(arguments)
        return _run(arguments)
    except (CannotRun, ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; every broker was stopped", file=sys.stderr)
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measures Ottla beside Apache Kafka on this machine. `bench/run table [RESULTS ...]` writes the table of "
        "a finished run, the newest full one if none is named, into docs/performance.md; several are taken as one.",
        epilog=f"scenarios: {', '.join(scenarios.ALL)}; all of them if none is named",
    )
    parser.add_argument("scenarios", nargs="*", metavar="scenario")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--full", dest="depth", action="store_const", const=FULL, help="what is published (the default)")
    depth.add_argument("--quick", dest="depth", action="store_const", const=QUICK, help="a tenth of the load, once")
    depth.add_argument("--ci", dest="depth", action="store_const", const=CI, help="a minute of Ottla alone")
    parser.add_argument("--runs", type=int, help="repetitions of each cell")
    parser.add_argument("--log-gib", type=int, metavar="N", help="the log of `recovery`, where the disk is small")
    parser.add_argument("--ottla", type=Path, metavar="BINARY", help="a binary that is built already")
    parser.add_argument("--no-kafka", action="store_true", help="Ottla alone")
    parser.add_argument("--directory", type=Path, help="where data directories are made; the disk that is measured")
    arguments = parser.parse_args()
    if arguments.scenarios[:1] != ["table"]:
        for name in arguments.scenarios:
            if name not in scenarios.ALL:
                parser.error(f"there is no scenario {name!r}")
    if arguments.log_gib is not None and arguments.log_gib < 1:
        parser.error("--log-gib must be at least 1")
    if arguments.runs is not None and arguments.runs < 1:
        parser.error("--runs must be at least 1")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    depth: Depth = arguments.depth or FULL
    if arguments.runs is not None:
        depth = Depth(**{**vars(depth), "runs": arguments.runs})
    if arguments.log_gib is not None:
        depth = Depth(**{**vars(depth), "recovery_mib": arguments.log_gib << 10})
    wanted = frozenset(arguments.scenarios or (scenarios.SMOKE if depth.name == CI.name else scenarios.ALL))
    kafka = not arguments.no_kafka and depth.name != CI.name
    if depth.name == CI.name:
        _own_tests(programs=scenarios.needs_generators(wanted))
    print("bench: building and fetching", flush=True)
    ottla = arguments.ottla.resolve() if arguments.ottla else install.ottla()
    if not ottla.is_file():
        raise CannotRun(f"there is no binary at {ottla}")
    classpath = install.kafka_classpath() if kafka else None
    parent = arguments.directory or os.environ.get("OTTLA_BENCH_DIR")
    # Also in the background, where a shell has interruptions ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _interrupted)
    with tempfile.TemporaryDirectory(prefix="ottla-bench-", dir=parent) as temporary:
        root = Path(temporary)
        generators = None
        if scenarios.needs_generators(wanted):
            generators = Generators.installed(depth.java, ottla, root)
        header = {
            **machine.describe(root, ottla, arguments.ottla is None, kafka),
            "command": shlex.join(["bench/run", *_without_paths(sys.argv[1:])]),
            "kafka": KAFKA_VERSION if kafka else "absent",
            "warm_up": warm_up.text(depth) if generators else None,
            "depth": depth.name,
            "runs": depth.runs,
            "scenarios": sorted(wanted),
        }
        if header["file_system"] in ("tmpfs", "ramfs"):
            print(f"bench: {root} is in memory: its fdatasync costs nothing; give --directory", file=sys.stderr)
        recorder = Recorder(RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{depth.name}.jsonl", header)
        brokers = Brokers(root, ottla, classpath)
        try:
            scenarios.run(wanted, brokers, generators, depth, recorder)
            recorder.finish()
        finally:
            brokers.close()
            recorder.close()
    results = recorder.results
    print(document.terminal(results))
    errors = results.errors()
    for row in errors:
        print(f"bench: failed: {row.scenario} {row.cell} {row.broker} #{row.run + 1}: {row.error}", file=sys.stderr)
    print(f"bench: {len(results.rows) - len(errors)} figures, {len(errors)} failed, in {recorder.path}")
    return 1 if errors else 0


def _without_paths(arguments: list[str]) -> list[str]:
    """The command as others would give it: where a binary or a directory lies on this machine says nothing to them."""
    return [argument if not Path(argument).is_absolute() else Path(argument).name for argument in arguments]


def _is_whole(results: Results) -> bool:
    return results.finished and frozenset(results.header.get("scenarios", [])) == frozenset(scenarios.ALL)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _own_tests(programs: bool) -> None:
    """The harness's own; a broken parser or generator must not wait for a full run to be found."""
    tests = unittest.defaultTestLoader.discover(str(BENCH / "tests"), top_level_dir=str(BENCH))
    outcome = unittest.TextTestRunner(verbosity=0).run(tests)
    if not outcome.wasSuccessful() or outcome.testsRun == 0:
        raise CannotRun("the harness's own tests failed")
    if programs:
        install.test_workspace()
    print(f"bench: {outcome.testsRun} tests of the harness{' and those of its programs' * programs} passed", flush=True)


def _table(arguments: argparse.Namespace) -> int:
    named = [Path(name) for name in arguments.scenarios[1:]]
    sources = named or [path for path in sorted(RESULTS.glob("*-full.jsonl")) if _is_whole(Results.read(path))][-1:]
    if not sources:
        raise CannotRun("no run under bench/results measured everything: run bench/run first, or name result files")
    results = Results.of(sources)
    if not results.finished:
        raise CannotRun("a run that was interrupted is not published; run it again")
    document.write(DOCUMENT, document.markdown(results))
    print(f"bench: wrote {', '.join(source.name for source in sources)} into {DOCUMENT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
