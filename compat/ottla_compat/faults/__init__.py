"""A disk and a clock that fail on request: the shim's other end, what was not synced, loads, and the verdict."""
