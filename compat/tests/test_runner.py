"""What makes a scenario fail besides its own steps, and what a run leaves behind."""

import io
import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path

from ottla_compat.brokers import ExternalBroker, OttlaFactory
from ottla_compat.brokers.ottla import OttlaBroker
from ottla_compat.failure import Failed
from ottla_compat.paths import COMPAT
from ottla_compat.runner import Outcome, Runner
from ottla_compat.scenario import WIRE, Context, Options, Program, Suite
from ottla_compat.waiting import wait_until

GOOD = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done"


class Scripted(OttlaFactory):
    """Brokers that are shell scripts: they answer nothing, but live and die as told."""

    def __init__(self, script: str):
        super().__init__()
        self.script = script
        self.made: list[OttlaBroker] = []

    def create(
        self, directory: Path, settings: Mapping[str, str] | None = None, port: int | None = None
    ) -> OttlaBroker:
        script = self.script

        class Broker(OttlaBroker):
            def command(self, overrides: Mapping[str, str]) -> list[str]:
                return ["sh", "-c", script]

        self.made.append(Broker(Path("/bin/sh"), directory, 1, {}))
        return self.made[-1]


def launched(context: Context) -> None:
    context.broker.launch({})
    wait_until("the script to speak", lambda: context.broker.log_size() > 0, 20)


class ScenariosFail(unittest.TestCase):
    def outcome(self, script: str, body: Callable[[Context], None]) -> tuple[Outcome, OttlaBroker]:
        with tempfile.TemporaryDirectory() as directory:
            factory = Scripted(script)
            runner = Runner(factory, None, Path(directory), [WIRE], Options(False, 0, 0, False, 0), None, False)
            with redirect_stdout(io.StringIO()):
                runner.run([Suite("suite", [Program("program", body)], clients=(WIRE,), own_brokers=True)])
            (outcome,) = runner.outcomes
            (broker,) = factory.made
            return outcome, broker

    def check(self, script: str, body: Callable[[Context], None], error: str | None) -> None:
        outcome, broker = self.outcome(script, body)
        if error is None:
            self.assertIsNone(outcome.error)
        else:
            self.assertIn(error, outcome.error or "(no error)")
        self.assertIsNone(broker.pid, "the broker outlives its scenario")

    def test_a_broker_that_does_well_is_none_of_these(self) -> None:
        self.check(GOOD, launched, None)

    def test_a_panic_that_the_broker_survived(self) -> None:
        self.check(f"echo \"thread 'tokio' panicked at dispatch.rs:1:1\"; {GOOD}", launched, "the broker panicked")

    def test_a_panic_before_the_scenario_is_not_its_own(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            broker = Scripted(GOOD).create(Path(directory))
            broker.log_path.write_text("thread 'tokio' panicked at dispatch.rs:1:1\n")
            since = broker.log_size()
            broker.check_no_panic(since)
            self.assertRaises(Failed, broker.check_no_panic, 0)

    def test_a_broker_that_ends_by_itself_after_the_last_step(self) -> None:
        def body(context: Context) -> None:
            launched(context)
            wait_until("the script to end", lambda: context.broker.exit_code() is not None, 20)

        self.check("echo ready; exit 3", body, "the broker ended by itself, with 3")

    def test_a_stop_that_is_not_clean(self) -> None:
        self.check("trap 'exit 1' TERM; echo ready; while :; do sleep 0.02; done", launched, "ended with 1 when told")

    def test_a_failure_while_leaving_hides_nothing_and_leaves_nothing(self) -> None:
        def body(context: Context) -> None:
            launched(context)

            def gone(process: str = "main", client: str | None = None) -> None:
                raise Failed("the driver is gone")

            context.driver = gone  # type: ignore[method-assign]
            context.members["a"] = "main"
            raise Failed("what went wrong")

        self.check(GOOD, body, "what went wrong")


class Memory(unittest.TestCase):
    def test_what_was_taken_and_given_back_counts(self) -> None:
        program = "import sys\nprint(flush=True)\ninput()\nbytearray(300 << 20)\nprint(flush=True)\ninput()\n"
        with (
            tempfile.TemporaryDirectory() as directory,
            subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as taker,
        ):
            assert taker.stdin is not None and taker.stdout is not None
            broker = ExternalBroker(Path(directory), "127.0.0.1", 1, taker.pid)
            taker.stdout.readline()
            before = broker.restart_peak()
            taker.stdin.write(b"\n")
            taker.stdin.flush()
            taker.stdout.readline()
            self.assertLess(broker.resident_kib() - before, 100 << 10)
            self.assertGreater(broker.peak_kib() - before, 250 << 10)
            taker.kill()


class Processes(unittest.TestCase):
    def test_what_was_started_dies_with_a_runner_that_is_killed(self) -> None:
        program = (
            "import subprocess, sys, time\n"
            "from ottla_compat import processes\n"
            "made = processes.start(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
            "print(made.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(COMPAT)}
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as runner:
            assert runner.stdout is not None
            started = int(runner.stdout.readline())
            comm = Path(f"/proc/{started}/comm")
            wait_until("the child to be what it is to be", lambda: comm.read_text() == "sleep\n", 20)
            runner.kill()
            runner.wait()
        wait_until("the child to be gone", lambda: not alive(started), 20)

    def test_an_interrupted_run_ends_what_it_started(self) -> None:
        program = (
            "import subprocess\n"
            "from ottla_compat import processes\n"
            "print(processes.start(['sleep', '60'], stdout=subprocess.DEVNULL).pid, flush=True)\n"
            "input()\n"
            "processes.end_all()\n"
            "try:\n"
            "    processes.start(['sleep', '60'])\n"
            "except processes.CannotRun as error:\n"
            "    print(error, flush=True)\n"
            "input()\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(COMPAT)}
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as runner:
            assert runner.stdin is not None and runner.stdout is not None
            started = int(runner.stdout.readline())
            runner.stdin.write(b"\n")
            runner.stdin.flush()
            self.assertEqual(runner.stdout.readline(), b"the run was interrupted\n")
            self.assertFalse(alive(started))
            runner.kill()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


if __name__ == "__main__":
    unittest.main()
