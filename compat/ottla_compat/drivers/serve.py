"""The driver's end of the protocol: reads requests from stdin, runs each in a thread of its own, answers on stdout."""

import json
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any


class DriverError(Exception):
    """An error of the client, under Kafka's name where it has one."""

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.name = name


Operation = Callable[..., Any]


def serve(operations: Mapping[str, Operation], translate: Callable[[Exception], DriverError]) -> None:
    output = threading.Lock()

    def answer(message: dict[str, Any]) -> None:
        line = json.dumps(message)
        with output:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def run(request: dict[str, Any]) -> None:
        try:
            operation = operations.get(request["op"])
            if operation is None:
                raise DriverError("NO_SUCH_OPERATION", request["op"])
            answer({"id": request["id"], "result": operation(**request["args"])})
        except Exception as error:  # every failure belongs to the request that caused it
            if not isinstance(error, DriverError):
                traceback.print_exc()
                error = translate(error)
            answer({"id": request["id"], "error": {"name": error.name, "message": str(error)}})

    for line in sys.stdin:
        threading.Thread(target=run, args=(json.loads(line),), daemon=True).start()
