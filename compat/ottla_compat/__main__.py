"""The command line of compat/run."""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import unittest
from pathlib import Path

from . import processes, report
from .brokers import BrokerFactory, ExternalBroker, KafkaFactory, OttlaFactory, external
from .driver import CLIENTS
from .failure import CannotRun
from .faults import results
from .paths import COMPAT, EXPECTED_COUNTS
from .runner import Runner
from .scenario import WIRE, Options
from .suites import SUITES, errors
from .wire import table

FULL_BULK_RECORDS = 1_000_000
QUICK_BULK_RECORDS = 20_000
FULL_KILLS = 50
CI_KILLS = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compat/run", description="Runs real Kafka clients against a broker.", allow_abbrev=False
    )
    names = list(dict.fromkeys(suite.name for suite in SUITES))
    parser.add_argument(
        "--client",
        action="append",
        choices=[*CLIENTS, WIRE],
        metavar="NAME",
        help=f"only this client: {', '.join(CLIENTS)}, or {WIRE} (the runner's own sockets)",
    )
    parser.add_argument(
        "--suite", action="append", choices=names, metavar="NAME", help=f"only this suite: {', '.join(names)}"
    )
    parser.add_argument(
        "--scenario", metavar="TEXT", help="only scenarios whose name contains TEXT (counts not compared)"
    )
    parser.add_argument("--broker", choices=["ottla", "kafka"], default="ottla", help="what to start (default: ottla)")
    parser.add_argument("--binary", type=Path, help="an ottla binary to start instead of building one")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="use this running broker")
    parser.add_argument("--broker-pid", type=int, help="with --bootstrap: its process, to watch its memory")
    parser.add_argument("--ci", action="store_true", help="a bounded smoke: fewer records, fewer kills")
    parser.add_argument(
        "--bulk-records", type=int, metavar="N", help=f"records per bulk pass (default {FULL_BULK_RECORDS})"
    )
    parser.add_argument("--kills", type=int, metavar="N", help=f"kills of the suite kill9 (default {FULL_KILLS})")
    parser.add_argument("--faults", type=int, metavar="N", help="faults per row of the suite faults")
    parser.add_argument("--seed", type=int, help="of everything random (default: a fresh one, printed)")
    parser.add_argument(
        "--record", action="store_true", help="with --broker kafka: write the answers into compat/recorded"
    )
    parser.add_argument(
        "--record-counts",
        action="store_true",
        help="write how many scenarios there are into expected.json; runs nothing",
    )
    parser.add_argument(
        "--error-table", action="store_true", help="if all of the suite errors passes: write docs/error-codes.md"
    )
    parser.add_argument(
        "--durability-table", action="store_true", help="write docs/durability.md's counts from results/; runs nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    directory = Path(tempfile.mkdtemp(prefix="ottla-compat-"))

    def interrupted(*_: object) -> None:
        processes.end_all()
        if not args.keep:
            shutil.rmtree(directory, ignore_errors=True)
        print("compat: interrupted; everything it started was ended", file=sys.stderr, flush=True)
        # Scenarios wait in threads of their own, for what cannot come any more.
        os._exit(130)

    # Also in the background, where a shell has interruptions ignored.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, interrupted)
    try:
        return run(args, directory)
    except CannotRun as error:
        print(f"compat: {error}", file=sys.stderr)
        return 2
    finally:
        if args.keep:
            print(f"compat: working directory kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


def run(args: argparse.Namespace, directory: Path) -> int:
    if args.record_counts:
        return record_counts(directory)
    if args.durability_table:
        print(f"compat: {results.write_table()}")
        return 0
    if args.record and args.broker != "kafka":
        raise CannotRun("--record takes the answers of Apache Kafka: it needs --broker kafka")
    if args.ci:
        own_tests()
    clients = args.client or [*CLIENTS, WIRE]
    if args.error_table:
        check_error_table(args, clients)
    chosen = [suite for suite in SUITES if not args.suite or suite.name in args.suite]
    factory, given, broker_version = broker(args, directory)
    if given is not None:
        left_out = sorted({suite.name for suite in chosen if not suite.runs_with_given_broker()})
        chosen = [suite for suite in chosen if suite.runs_with_given_broker()]
        print(f"compat: not with --bootstrap, all or in part: {', '.join(left_out)}")
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    options = Options(
        ci=args.ci,
        bulk_records=args.bulk_records or (QUICK_BULK_RECORDS if args.ci else FULL_BULK_RECORDS),
        kills=args.kills or (CI_KILLS if args.ci else FULL_KILLS),
        record=args.record,
        seed=seed,
        faults=args.faults,
    )
    print(f"compat: broker {broker_version}, seed {seed}", flush=True)
    runner = Runner(factory, given, directory, clients, options, args.scenario, args.keep)
    runner.run(chosen)
    if args.error_table:
        print(f"compat: {error_table(runner)}")
    return conclude(args, runner, {"broker": broker_version, **runner.versions}, chosen, clients)


def own_tests() -> None:
    """The harness's own: a comparison that cannot fail must not wait for someone to read it."""
    tests = unittest.defaultTestLoader.discover(str(COMPAT / "tests"), top_level_dir=str(COMPAT))
    outcome = unittest.TextTestRunner(verbosity=0).run(tests)
    if not outcome.wasSuccessful() or outcome.testsRun == 0:
        raise CannotRun("the harness's own tests failed")
    print(f"compat: {outcome.testsRun} tests of the harness passed", flush=True)


def check_error_table(args: argparse.Namespace, clients: list[str]) -> None:
    """The document is of a whole run of the suite, against Ottla."""
    whole = not args.suite or errors.SUITES[0].name in args.suite
    if args.scenario or args.record or args.bootstrap or args.broker != "ottla" or WIRE not in clients or not whole:
        raise CannotRun("--error-table needs all of the suite errors against Ottla: no --scenario, --bootstrap or --record")


def error_table(runner: Runner) -> str:
    failed = [each for each in runner.outcomes if each.suite == errors.SUITES[0].name and not each.passed]
    if failed:
        return f"the table of error codes is not written: {len(failed)} scenarios of its suite failed"
    return table.write(errors.CASES, errors.answered)


def broker(args: argparse.Namespace, directory: Path) -> tuple[BrokerFactory | None, ExternalBroker | None, str]:
    if args.bootstrap:
        return None, external(directory / "given", args.bootstrap, args.broker_pid), f"at {args.bootstrap}"
    factory: BrokerFactory = KafkaFactory() if args.broker == "kafka" else OttlaFactory(args.binary)
    return factory, None, factory.prepare()


def conclude(args: argparse.Namespace, runner: Runner, versions: dict[str, str], chosen: list, clients: list) -> int:
    outcomes = runner.outcomes
    run_counts = report.counts(outcomes)
    names = list(dict.fromkeys(suite.name for suite in chosen))
    missing = [] if args.scenario else report.too_few(run_counts, counted_as(runner.broker_kind, args.ci), names, clients)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    print()
    print(report.table(outcomes))
    print()
    print(f"broker: {versions['broker']}")
    print(report.by_client(outcomes, versions))
    for each in missing:
        print(f"compat: too few: {each}")
    if args.json:
        args.json.write_text(report.as_json(outcomes, versions, missing) + "\n", encoding="utf-8")
    if not outcomes:
        print("compat: nothing ran")
    for outcome in failed:
        print(f"compat: failed: {outcome.suite}, {outcome.client}: {outcome.scenario}")
    print(f"compat: {len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 0 if outcomes and not failed and not missing else 1


def counted_as(broker_kind: str, ci: bool) -> str:
    """The name in expected.json."""
    return f"{broker_kind}-ci" if ci else broker_kind


def record_counts(directory: Path) -> int:
    recorded: dict[str, report.Counts] = {}
    with_given = [suite for suite in SUITES if suite.runs_with_given_broker()]
    for ci in (False, True):
        counter = Runner(None, None, directory, [], Options(ci, 0, 0, False, 0), None, False)
        for kind, suites in (("ottla", SUITES), ("kafka", SUITES), ("given", with_given)):
            recorded[counted_as(kind, ci)] = counter.count(suites, kind)
    EXPECTED_COUNTS.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
