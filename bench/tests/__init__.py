"""Tests of what the harness computes; they need no broker. `python3 -m unittest discover -s bench/tests -t bench`."""
