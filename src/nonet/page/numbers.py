"""Number formats for pages and terminals: scores as fractions, shares of cells in percent.

A number that rounds to zero has no sign: 0.000, never −0.000. Unknown values are a dash.
"""

import pandas as pd


def number(value: float, places: int, *, sign: bool = False) -> str:
    """Return a number with `places` decimals; with `sign`, as "+0.012" or "−0.012"."""
    if pd.isna(value):
        return "–"
    text = f"{abs(value):.{places}f}"
    if not float(text):
        return text
    return f"{'−' if value < 0 else '+' if sign else ''}{text}"


def score(value: float) -> str:
    """Return a score between 0 and 1 with three decimals."""
    return number(value, 3)


def signed(value: float) -> str:
    """Return a difference of scores: "+0.012", "−0.012" or "0.000"."""
    return number(value, 3, sign=True)


def count(value: float) -> str:
    """Return an integer with thousands separators."""
    return "–" if pd.isna(value) else f"{int(value):,}"


def percent(share: float, places: int = 0) -> str:
    """Return a share as "12 %"; never rounded to 0 or 100 unless it is: "<1 %", ">99 %"."""
    if pd.isna(share):
        return "–"
    text, least = number(100 * share, places), number(10.0**-places, places)
    if share > 0 and not float(text):
        return f"<{least} %"
    if share < 1 and float(text) == 100:
        return f">{number(100 - 10.0**-places, places)} %"
    return f"{text} %"


def percent_range(low: float, high: float, places: int = 0) -> str:
    """Return an interval of a share as "51–68 %"."""
    return "–" if pd.isna(low) else f"{number(100 * low, places)}–{number(100 * high, places)} %"
