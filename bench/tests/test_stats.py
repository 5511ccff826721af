"""Medians, ratios and how numbers are written."""

import unittest

from ottla_bench.stats import Summary, ratio, short


class Stats(unittest.TestCase):
    def test_a_summary_is_median_and_extremes(self) -> None:
        summary = Summary.of([30.0, 10.0, 20.0])
        self.assertEqual((summary.median, summary.minimum, summary.maximum, summary.runs), (20.0, 10.0, 30.0, 3))
        self.assertEqual(str(summary), "20.0 (10.0-30.0)")
        self.assertEqual(str(Summary.of([4.0])), "4.00")

    def test_no_value_is_no_summary(self) -> None:
        with self.assertRaises(ValueError):
            Summary.of([])

    def test_three_digits_count(self) -> None:
        for value, text in [(0, "0"), (0.0456, "0.046"), (1.234, "1.23"), (12.34, "12.3"), (1234567, "1,234,567")]:
            self.assertEqual(short(value), text)

    def test_a_ratio_is_of_medians(self) -> None:
        self.assertEqual(ratio(Summary.of([2, 4, 6]), Summary.of([8])), "0.500 x")
        self.assertEqual(ratio(Summary.of([2]), Summary.of([0])), "-")


if __name__ == "__main__":
    unittest.main()
