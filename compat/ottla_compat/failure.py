"""The ways a scenario fails."""


class Failed(Exception):
    """What was observed is not what the scenario expects."""


class ClientError(Failed):
    """The client under test reported an error. `name` is Kafka's name of the error, or the client's own."""

    def __init__(self, name: str, message: str, op: str):
        super().__init__(f"{op}: {name}: {message}")
        self.name = name
        self.message = message


class CannotRun(Exception):
    """The run itself is not possible: something is missing or was asked for wrongly."""


def check(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


def check_equal(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise Failed(f"{what}: expected {shorten(expected)}, got {shorten(actual)}")


def shorten(value: object, limit: int = 600) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
