"""How scores fall as images get worse, and whether denoising and views help: tables from logits by variant."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.ensemble_file import Weights
from nonet.artifacts.integrity import read_checked_parquet, reading
from nonet.artifacts.run import Run
from nonet.data.preprocess.corruptions import CLEAN, CORRUPTIONS
from nonet.errors import RunError
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.metrics import macro_f1_score
from nonet.evaluation.oof import OutOfFold, align_oof
from nonet.evaluation.tables import align_columns, format_interval
from nonet.inference.corrupted_images import Variant
from nonet.settings import NO_VIEWS

DENOISING, VIEWS, CORRUPTION = "denoised − as is", "with views − without", "corrupted − clean"


@dataclass(frozen=True)
class Robustness:
    """The results of a robustness test.

    Attributes
    ----------
    scores : DataFrame
        One row per variant. Columns: corruption, severity, denoised (bool), views, macro_f1 with `_low` and `_high`,
        share_changed (of the images, by denoising), images, patients (known ones), groups (what the bootstrap drew),
        confidence.
    differences : DataFrame
        Paired differences in macro-F1. Columns: comparison (`DENOISING`, `VIEWS` or `CORRUPTION`), the first variant of
        the comparison as above, difference, difference_low, difference_high.
    """

    scores: pd.DataFrame
    differences: pd.DataFrame


def robustness_tables(
    folder: str | Path, *, weights: Weights | None = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> Robustness:
    """Score every variant in a folder of out-of-fold logits on the same resampled patients.

    Parameters
    ----------
    folder : str or Path
        As `nonet.inference.corruptions.score_corruptions` returns it.
    weights : Weights, optional
        Of the members; equal by default.
    bootstrap : Bootstrap
        Over patients, or over images where patients are unknown.

    Returns
    -------
    Robustness
        Scores and paired differences.

    Raises
    ------
    RunError
        If the folder holds no variant, or the variants are not of the same images.
    """
    variants: list[Variant] = []
    predicted: list[np.ndarray] = []
    shares: list[float] = []
    first: OutOfFold | None = None
    for variant, oof, share in _read(Path(folder), weights):
        first = oof if first is None else first
        if not np.array_equal(oof.image_id, first.image_id):
            raise RunError(f"{folder}: {variant.file_name} is of other images.", hint="Delete it and run again.")
        variants.append(variant)
        predicted.append(oof.final_logits.argmax(axis=-1))
        shares.append(share)
    if first is None:
        raise RunError(f"{folder} contains no logits.", hint='Run "nonet evaluate RUN --robustness".')
    confusions = confusions_by_group(first.true, np.stack(predicted), first.group, len(first.classes))
    value = macro_f1_score(confusions.total())
    resampled = bootstrap.scores(confusions, {"macro_f1": macro_f1_score})["macro_f1"]
    low, high = bootstrap.interval(resampled)
    scores = _columns(variants).assign(macro_f1=value, macro_f1_low=low, macro_f1_high=high, share_changed=shares)
    scores = scores.assign(
        images=len(first.true),
        patients=first.num_patients,
        groups=confusions.num_groups,
        confidence=bootstrap.confidence,
    )
    pairs = _pairs(variants)
    gaps = [bootstrap.interval(resampled[:, i] - resampled[:, j]) for _, i, j in pairs]
    differences = _columns([variants[i] for _, i, _ in pairs]).assign(
        difference=[value[i] - value[j] for _, i, j in pairs],
        difference_low=[float(low) for low, _ in gaps],
        difference_high=[float(high) for _, high in gaps],
    )
    differences.insert(0, "comparison", [name for name, _, _ in pairs])
    return Robustness(scores, differences)


def read_robustness(run: Run) -> Robustness | None:
    """Read the results of an earlier robustness test.

    Parameters
    ----------
    run : Run
        The run folder.

    Returns
    -------
    Robustness or None
        None where nothing was tested, or no corruption.

    Raises
    ------
    RunError
        If a table is damaged or unreadable.
    """
    if not (run.robustness.is_file() and run.robustness_differences.is_file()):
        return None
    tables = []
    for path in (run.robustness, run.robustness_differences):
        with reading(path, hint=f'Run "nonet evaluate {run} --robustness" again.'):
            # "none" is a word here, and not a missing value.
            tables.append(read_csv(path, keep_default_na=False, na_values=[""]))
            tables[-1]["severity"]
    robustness = Robustness(*tables)
    return robustness if (robustness.differences["comparison"] == CORRUPTION).any() else None


def denoising_rows(robustness: Robustness) -> list[dict]:
    """Return what denoising gains under each corruption, without views.

    Parameters
    ----------
    robustness : Robustness
        The results.

    Returns
    -------
    list of dict
        The row of the differences, with the scores `as_is` and `denoised` (Series) and `share_changed`.
    """
    plain = robustness.scores[robustness.scores["views"] == NO_VIEWS]
    keys = zip(plain["corruption"], plain["severity"], plain["denoised"])
    scores = {key: plain.iloc[number] for number, key in enumerate(keys)}
    gaps = robustness.differences
    gaps = gaps[(gaps["comparison"] == DENOISING) & (gaps["views"] == NO_VIEWS)]
    rows = []
    for row in gaps.to_dict("records"):
        as_is, denoised = (scores[row["corruption"], row["severity"], way] for way in (False, True))
        both = {"as_is": as_is, "denoised": denoised, "share_changed": float(denoised["share_changed"])}
        rows.append(row | both)
    return rows


def corruption_rows(robustness: Robustness, *, denoised: bool) -> tuple[float, list[dict]]:
    """Return macro-F1 of the clean images, and what each corruption loses, without views.

    Parameters
    ----------
    robustness : Robustness
        The results.
    denoised : bool
        Whether images were denoised; where only the other variant was tested, that one is used.

    Returns
    -------
    clean : float
        Macro-F1 of the clean images.
    rows : list of dict
        Keys corruption, severity, macro_f1, difference, difference_low and difference_high.
    """
    scores = robustness.scores[robustness.scores["views"] == NO_VIEWS]
    way = denoised if (scores["denoised"] == denoised).any() else not denoised
    scores = scores[scores["denoised"] == way]
    macro_f1 = dict(zip(zip(scores["corruption"], scores["severity"]), scores["macro_f1"].astype(float)))
    gaps = robustness.differences
    gaps = gaps[(gaps["comparison"] == CORRUPTION) & (gaps["views"] == NO_VIEWS) & (gaps["denoised"] == way)]
    columns = ["corruption", "severity", "difference", "difference_low", "difference_high"]
    rows = [
        row | {"macro_f1": macro_f1[row["corruption"], row["severity"]]} for row in gaps[columns].to_dict("records")
    ]
    return macro_f1[CLEAN, 0], rows


def format_robustness(robustness: Robustness) -> str:
    """Lay out the scores for a terminal.

    Parameters
    ----------
    robustness : Robustness
        The results.

    Returns
    -------
    str
        One line per corruption and severity, one column per variant.
    """
    pairs = set(zip(robustness.scores["denoised"], robustness.scores["views"]))
    ways: list[tuple[bool, str]] = sorted(pairs, key=lambda way: (way[1] != NO_VIEWS, way))
    heads = [f"{'denoised' if denoised else 'as is'}, views {views}" for denoised, views in ways]
    lines = [["", "severity", *heads]]
    cells: dict[tuple[str, int], dict[tuple[bool, str], str]] = {}
    for row in robustness.scores.to_dict("records"):
        cell = format_interval(row["macro_f1"], row["macro_f1_low"], row["macro_f1_high"])
        cells.setdefault((row["corruption"], row["severity"]), {})[row["denoised"], row["views"]] = cell
    for (corruption, severity), by_way in cells.items():
        lines.append([corruption, str(severity), *(by_way.get(way, "") for way in ways)])
    return align_columns(lines)


def _read(folder: Path, weights: Weights | None) -> Iterator[tuple[Variant, OutOfFold, float]]:
    """Yield each variant, its logits, and the share of images that denoising changed; one table at a time."""
    order = [CLEAN, *CORRUPTIONS]
    variants = [Variant.from_file_name(path) for path in folder.glob("[!.]*.parquet")]
    for variant in sorted(
        variants, key=lambda c: (order.index(c.corruption), c.severity, c.view_set != NO_VIEWS, c.denoised)
    ):
        table = read_checked_parquet(folder / variant.file_name)
        yield variant, align_oof(table, weights=weights), float(table["changed"].mean())


def _columns(variants: list[Variant]) -> pd.DataFrame:
    table = pd.DataFrame(variants, columns=["corruption", "severity", "denoised", "view_set"])
    return table.rename(columns={"view_set": "views"})


def _pairs(variants: list[Variant]) -> list[tuple[str, int, int]]:
    """Return (comparison, first, second): numbers of variants that differ in one thing."""
    number = {variant: i for i, variant in enumerate(variants)}
    pairs = []
    for i, c in enumerate(variants):
        others = [
            (DENOISING, c.denoised, Variant(c.corruption, c.severity, False, c.view_set)),
            (VIEWS, c.view_set != NO_VIEWS, Variant(c.corruption, c.severity, c.denoised, NO_VIEWS)),
            (CORRUPTION, c.severity > 0, Variant(CLEAN, 0, c.denoised, c.view_set)),
        ]
        pairs += [(name, i, number[other]) for name, differs, other in others if differs and other in number]
    return sorted(pairs, key=lambda pair: (DENOISING, VIEWS, CORRUPTION).index(pair[0]))
