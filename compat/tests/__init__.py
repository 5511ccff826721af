"""Tests of the harness itself; they need no client and no broker. `compat/run --ci` runs them first."""
