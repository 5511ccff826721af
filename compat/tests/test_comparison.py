"""What is compared with the recorded answers, and what comparing refuses."""

import argparse
import unittest
from typing import Any

from ottla_compat import __main__ as command_line
from ottla_compat.driver import CLIENTS
from ottla_compat.failure import CannotRun
from ottla_compat.scenario import WIRE
from ottla_compat.suites import admin
from ottla_compat.wire import record_cases, table
from ottla_compat.wire.case import Case, Request


class Answers:
    """Stands for the driver that sends requests."""

    def __init__(self, *bodies: Any):
        self._bodies = [{"body": body} for body in bodies]

    def call(self, op: str, **args: Any) -> list[Any]:
        count = len(args["requests"])
        given, self._bodies = self._bodies[:count], self._bodies[count:]
        return given


class Cases(unittest.TestCase):
    def test_of_a_list_only_what_the_case_named_is_compared(self) -> None:
        listed = [{"groupId": name} for name in ("other", "run.g-x", "run.g")]
        case = Case("case", (Request("LIST_GROUPS", 0, {}, only_own={"groups": "groupId"}),))
        found = case.run(Answers({"groups": listed}), "host", 1, {"$group": "run.g"})  # type: ignore[arg-type]
        self.assertEqual(found, [{"body": {"groups": [{"groupId": "$group"}, {"groupId": "$group/-x"}]}}])

    def test_an_api_that_is_not_served_is_not_advertised_and_every_other_is(self) -> None:
        kafka = [{"body": {"errorCode": 0, "ranges": {"0": [0, 13], "52": [0, 2]}}}]
        self.assertEqual(record_cases.without_absent_apis(kafka), [{"body": {"errorCode": 0, "ranges": {"0": [0, 13]}}}])


class Telling(unittest.TestCase):
    def test_a_function_that_cannot_tell_what_is_there_is_refused(self) -> None:
        present, absent = admin.call("describe_log_dirs", topic="$t"), admin.call("describe_log_dirs", topic="$absent")
        admin.check_telling("case", [(present, [1]), (absent, [])])
        with self.assertRaises(CannotRun):
            admin.check_telling("case", [(present, []), (absent, [])])


class ErrorTable(unittest.TestCase):
    WHOLE = {"suite": ["errors"], "scenario": None, "record": False, "bootstrap": None, "broker": "ottla"}

    def test_only_a_whole_run_of_the_suite_against_ottla_may_write_it(self) -> None:
        clients = [*CLIENTS, WIRE]
        command_line.check_error_table(argparse.Namespace(**self.WHOLE), clients)
        command_line.check_error_table(argparse.Namespace(**{**self.WHOLE, "suite": None}), clients)
        for wrong in ({"suite": ["smoke"]}, {"scenario": "x"}, {"broker": "kafka"}, {"bootstrap": "x:1"}, {"record": True}):
            with self.subTest(wrong), self.assertRaises(CannotRun):
                command_line.check_error_table(argparse.Namespace(**{**self.WHOLE, **wrong}), clients)
        with self.assertRaises(CannotRun):
            command_line.check_error_table(argparse.Namespace(**self.WHOLE), ["java"])

    def test_a_case_without_an_answer_makes_no_table(self) -> None:
        with self.assertRaises(CannotRun):
            table.write(record_cases.RECORD_CASES, {})


if __name__ == "__main__":
    unittest.main()
