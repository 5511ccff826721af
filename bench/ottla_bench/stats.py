"""Median, minimum and maximum of a cell's runs, and how they are written."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A cell's figure over its runs."""

    median: float
    minimum: float
    maximum: float
    runs: int
    # How often it was to be measured, where that is known.
    wanted: int | None = None

    @staticmethod
    def of(values: list[float], wanted: int | None = None) -> "Summary":
        if not values:
            raise ValueError("no run has this figure")
        return Summary(statistics.median(values), min(values), max(values), len(values), wanted)

    def __str__(self) -> str:
        missing = f", {self.runs} of {self.wanted} runs" if self.is_incomplete else ""
        if self.runs == 1:
            return short(self.median) + missing
        return f"{short(self.median)} ({short(self.minimum)}-{short(self.maximum)}){missing}"

    @property
    def is_incomplete(self) -> bool:
        return self.wanted is not None and self.runs < self.wanted


def short(value: float) -> str:
    """Three digits that count, thousands separated."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}"


def ratio(ours: Summary, theirs: Summary) -> str:
    """Of medians; a dash when there is nothing to divide by."""
    if theirs.median == 0:
        return "-"
    return f"{short(ours.median / theirs.median)} x"
