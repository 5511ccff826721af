"""All suites, in the order they run."""

from ..scenario import Suite
from . import bulk, codec, errors, groups_classic, kill9, produce_consume, restart, smoke

SUITES: tuple[Suite, ...] = (
    smoke.SUITE,
    codec.SUITE,
    produce_consume.SUITE,
    groups_classic.SUITE,
    *errors.SUITES,
    *restart.SUITES,
    bulk.SUITE,
    *kill9.SUITES,
)
