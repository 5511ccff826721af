"""Drivers written in Python. Each is a program: `python -m ottla_compat.drivers.NAME`."""
