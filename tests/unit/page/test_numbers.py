"""How numbers are written: no sign before nothing, no 0 % where there are some."""

import numpy as np
import pytest

from nonet.evaluation.tables import format_interval
from nonet.page.numbers import count, number, percent, percent_range, score, signed


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0123, "+0.012"),
        (-0.0123, "−0.012"),
        (-0.0004, "0.000"),
        (0.0004, "0.000"),
        (-0.0, "0.000"),
        (-0.0005001, "−0.001"),
        (np.nan, "–"),
    ],
)
def test_a_difference_that_rounds_to_nothing_has_no_sign(value, said):
    assert signed(value) == said


def test_nor_has_a_score_or_an_interval():
    assert score(-1e-9) == number(-1e-9, 3) == "0.000"
    assert format_interval(-1e-9, -1e-9, 0.1) == "0.000 [0.000, 0.100]"
    assert format_interval(0.5, np.nan, np.nan) == "0.500 [–]"
    assert format_interval(np.nan, np.nan, np.nan) == "–"


@pytest.mark.parametrize(
    ("share", "places", "said"),
    [
        (0, 0, "0 %"),
        (0.004, 0, "<1 %"),
        (0.0004, 1, "<0.1 %"),
        (0.126, 0, "13 %"),
        (0.126, 1, "12.6 %"),
        (0.996, 0, ">99 %"),
        (0.9996, 1, ">99.9 %"),
        (1, 0, "100 %"),
        (-1e-12, 0, "0 %"),
        (np.nan, 0, "–"),
    ],
)
def test_a_share_is_neither_none_nor_all_unless_it_is(share, places, said):
    assert percent(share, places) == said


def test_ranges_and_counts():
    assert percent_range(0.513, 0.677) == "51–68 %"
    assert percent_range(0.0, 0.0371, 1) == "0.0–3.7 %"
    assert percent_range(np.nan, np.nan) == count(np.nan) == "–"
    assert count(12345.0) == "12,345"
