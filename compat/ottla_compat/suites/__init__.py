"""All suites, in the order they run."""

from ..scenario import Suite
from . import (
    admin,
    adopt,
    bulk,
    codec,
    configs,
    cross_reads,
    errors,
    faults,
    groups_classic,
    kill9,
    log_dirs,
    produce_consume,
    reconnect,
    restart,
    smoke,
)

SUITES: tuple[Suite, ...] = (
    smoke.SUITE,
    codec.SUITE,
    produce_consume.SUITE,
    cross_reads.SUITE,
    *groups_classic.SUITES,
    admin.SUITE,
    *configs.SUITES,
    *errors.SUITES,
    *restart.SUITES,
    *reconnect.SUITES,
    adopt.SUITE,
    bulk.SUITE,
    *kill9.SUITES,
    log_dirs.SUITE,
    *faults.SUITES,
)
