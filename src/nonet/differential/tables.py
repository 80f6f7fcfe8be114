"""Differentials as a table and as JSON: the columns of differential.csv and the keys of differential.json."""

from collections.abc import Iterable

import pandas as pd

from nonet.differential.shares import Differential, Share


def to_table(cases: Iterable[Differential]) -> pd.DataFrame:
    """Return differentials as a table, the content of differential.csv.

    Parameters
    ----------
    cases : iterable of Differential

    Returns
    -------
    DataFrame
        A row per case and class, group of classes, cell counted per 100 white cells, and kind of image that is not
        counted. Columns case, part, key, name, count, of (white cells counted), percent, low, high, and
        corrected_percent, corrected_low, corrected_high; NaN where there is none.
    """
    return pd.DataFrame([row for case in cases for row in _rows(case)])


def to_dict(case: Differential) -> dict:
    """Return a differential as differential.json lists it: shares in percent, None where there is none.

    Parameters
    ----------
    case : Differential

    Returns
    -------
    dict
    """
    facts = {name: getattr(case, name) for name in ("case", "num_images", "num_counted", "confidence", "notes")}
    rows = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in _rows(case)]
    shares = [{key: value for key, value in row.items() if key not in ("case", "of")} for row in rows]
    gain = [{"cells": num, "low": round(100 * low, 3), "high": round(100 * high, 3)} for num, low, high in case.gain()]
    return facts | {
        "shares": [row for row in shares if row["part"] != "not counted"],
        "not_counted": case.apart,
        "largest_share_with_more_cells": gain,
    }


def _rows(case: Differential) -> list[dict]:
    parts = {"class": case.classes, "group": case.groups, "per 100 white cells": case.per_100}
    rows = [_row(case, part, share) for part, shares in parts.items() for share in shares]
    for reason, num in case.apart.items():
        rows.append({"case": case.case, "part": "not counted", "key": reason, "name": reason, "count": num})
    return rows


def _row(case: Differential, part: str, share: Share) -> dict:
    numbers = {
        "percent": share.share,
        "low": share.low,
        "high": share.high,
        "corrected_percent": share.corrected,
        "corrected_low": share.corrected_low,
        "corrected_high": share.corrected_high,
    }
    about = {"case": case.case, "part": part, "key": share.key, "name": share.name}
    percents = {name: round(100 * value, 3) for name, value in numbers.items()}
    return about | {"count": share.count, "of": case.num_counted} | percents
