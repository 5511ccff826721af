"""What ends a cell, and what ends the run."""


class CellFailed(Exception):
    """One measurement could not be made; the others go on."""


class BrokerLost(Exception):
    """The broker of a session ended; the session's further cells cannot be measured."""


class CannotRun(Exception):
    """The machine lacks something that the whole run needs."""
