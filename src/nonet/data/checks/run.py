"""The checks of a dataset before training: copies, leaks, shortcuts, backgrounds, and classes that are too small."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from nonet.cells import class_name, in_order_of_maturation
from nonet.data.checks.background import BACKGROUND, Background, background_notes, find_backgrounds
from nonet.data.checks.finding import Finding
from nonet.data.checks.near_duplicates import UNCHANGED, near_duplicates
from nonet.data.checks.shortcuts import ALL_SOURCES, ORDER, Shortcut, find_shortcuts
from nonet.data.folds import NUM_FOLDS, patients_per_class
from nonet.data.images.image_stats import ImageStats
from nonet.data.manifest import format_findings
from nonet.data.patients import patient_findings
from nonet.data.sources.splits import TEST, parse_split
from nonet.errors import counted

PAIR_COLUMNS = ["image_a", "image_b", "label_a", "label_b", "patient_a", "patient_b", "similarity", "view", "kind"]
#: Kinds of near duplicates, the most serious first, and what each means.
PAIR_KINDS = {
    "labels differ": "one picture under two labels",
    "test": "a score on the test set would be too good",
    "patients differ": "a leak: the picture may be on both sides of a split",
    "patient unknown": "possibly a leak: the folds do not keep the two together",
    "same original": "versions of one image, kept together by the folds",
    "same patient": "kept together by folds by patient",
}
_SERIOUS = ("labels differ", "test", "patients differ", "patient unknown")


@dataclass(frozen=True)
class Checks:
    """Results of the checks of a dataset.

    Attributes
    ----------
    findings : list of Finding
        What a person should look at; empty for a clean dataset.
    notes : list of Finding
        What the data are like, and what follows for scores; nothing to repair, so `ok` does not depend on them.
    pairs : DataFrame
        Near duplicates, with the columns PAIR_COLUMNS; `kind` is the most serious of PAIR_KINDS that applies.
    shortcuts : list of Shortcut
        Everything that was tested.
    backgrounds : list of Background
        How far the background's colour tells sources and patients apart.
    counts : DataFrame
        One row per class and source with images; the columns are those of `class_counts`.
    copies, conflicts, unreadable : DataFrame
        Images that were left out or cannot be read, with the columns path, source, label and reason.
    num_images : int
        Rows of the manifest.
    num_folds : int
        Classes with fewer patients are reported.
    """

    findings: list[Finding]
    notes: list[Finding]
    pairs: pd.DataFrame
    shortcuts: list[Shortcut]
    backgrounds: list[Background]
    counts: pd.DataFrame
    copies: pd.DataFrame
    conflicts: pd.DataFrame
    unreadable: pd.DataFrame
    num_images: int
    num_folds: int

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def __str__(self) -> str:
        return format_findings([finding.text for finding in self.findings], [note.text for note in self.notes])

    def as_json(self) -> dict:
        """Return the results as plain lists and dicts that JSON can represent, with None for NaN."""
        tables = ("pairs", "counts", "copies", "conflicts", "unreadable")
        lists = ("findings", "notes", "shortcuts", "backgrounds")
        data: dict = {"num_images": self.num_images}
        data |= {name: [asdict(each) for each in getattr(self, name)] for name in lists}
        return _plain(data | {name: getattr(self, name).to_dict("records") for name in tables})


def run_checks(
    manifest: pd.DataFrame,
    stats: Sequence[ImageStats | None],
    excluded: pd.DataFrame,
    *,
    unreadable: pd.DataFrame | None = None,
    num_folds: int = NUM_FOLDS,
) -> Checks:
    """Check a dataset whose images have been read.

    Parameters
    ----------
    manifest : DataFrame
    stats : sequence of ImageStats or None
        Of each row of the manifest; None where the image cannot be read. Such rows are left out of the checks that need
        pixels.
    excluded : DataFrame
        What the build left out: path, source, label, reason.
    unreadable : DataFrame, optional
        Images of the manifest that are missing, changed or unreadable now, with the same columns.
    num_folds : int
        Folds that will be trained with: classes of fewer patients are reported.

    Returns
    -------
    Checks
    """
    readable = manifest[np.array([each is not None for each in stats], dtype=bool)].reset_index(drop=True)
    known_stats = [each for each in stats if each is not None]
    reason = excluded["reason"].astype(str)
    failed = excluded[reason.str.match("unreadable|missing|changed|could not be read now")]
    if unreadable is not None:
        failed = pd.concat([failed, unreadable], ignore_index=True)
    with_colours = _add_colours(readable, known_stats)
    pairs, backgrounds = _find_pairs(readable, known_stats), find_backgrounds(with_colours)
    shortcuts = find_shortcuts(with_colours[with_colours["label"].notna() & with_colours["split"].ne("test")])
    conflicts = excluded[reason.str.startswith("conflict")]
    findings = [
        *_unreadable_findings(failed),
        *_conflict_findings(conflicts),
        *split_findings(manifest),
        *patient_findings(manifest),
        *_pair_findings(pairs),
        *_shortcut_findings(shortcuts, readable),
        *_small_class_findings(manifest, num_folds),
    ]
    return Checks(
        findings=findings,
        notes=list(background_notes(backgrounds, manifest)),
        pairs=pairs,
        shortcuts=shortcuts,
        backgrounds=backgrounds,
        counts=class_counts(manifest),
        copies=excluded[reason.str.startswith("duplicate image")],
        conflicts=conflicts,
        unreadable=failed,
        num_images=len(manifest),
        num_folds=num_folds,
    )


def class_counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Count images and patients per class and source.

    Parameters
    ----------
    manifest : DataFrame

    Returns
    -------
    DataFrame
        One row per class and source that has labelled images, in order of maturation, with the columns class, name,
        source, images, patients (known ones) and unknown (images without a patient).
    """
    labelled = manifest[manifest["label"].notna()]
    rows = []
    for code in in_order_of_maturation(labelled["label"].unique()):
        for source, part in labelled[labelled["label"] == code].groupby("source"):
            numbers = (len(part), part["patient"].nunique(), int(part["patient"].isna().sum()))
            rows.append((code, class_name(code), source, *numbers))
    return pd.DataFrame(rows, columns=["class", "name", "source", "images", "patients", "unknown"])


def _find_pairs(manifest: pd.DataFrame, stats: list[ImageStats]) -> pd.DataFrame:
    if len(manifest) < 2:
        return pd.DataFrame(columns=PAIR_COLUMNS)
    matches = near_duplicates(np.stack([each.thumbnail for each in stats]))
    a, b = (manifest.iloc[matches[side]].reset_index(drop=True) for side in ("first", "second"))
    both_labelled, both_known = a["label"].notna() & b["label"].notna(), a["patient"].notna() & b["patient"].notna()
    same_original = pd.Series(False, index=a.index)
    if "original_image_id" in manifest:
        same_original = a["original_image_id"].notna() & a["original_image_id"].eq(b["original_image_id"])
    kind = np.select(
        [
            both_labelled & a["label"].ne(b["label"]),
            a["split"].eq("test") ^ b["split"].eq("test"),
            a["split"].eq("test") & b["split"].eq("test"),
            ~a["evaluate"] & ~b["evaluate"],
            same_original,
            both_known & a["patient"].ne(b["patient"]),
            ~both_known,
        ],
        ["labels differ", "test", "both test", "neither scored", "same original", "patients differ", "patient unknown"],
        "same patient",
    )
    columns = {f"{name}_{side}": rows[name] for name in ("label", "patient") for side, rows in (("a", a), ("b", b))}
    pairs = pd.DataFrame({"image_a": a["image_id"], "image_b": b["image_id"]} | columns)
    pairs = pairs.assign(similarity=matches["similarity"].round(4), view=matches["view"], kind=kind)[PAIR_COLUMNS]
    # Where neither image is trained on, or neither is scored, nothing leaks.
    pairs = pairs[~pairs["kind"].isin(["both test", "neither scored"])]
    rank = pairs["kind"].map({name: i for i, name in enumerate(PAIR_KINDS)})
    return pairs.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)


def _add_colours(manifest: pd.DataFrame, stats: list[ImageStats]) -> pd.DataFrame:
    """Return the manifest with the colours of each image's border, as the checks name them."""
    red, green, blue = np.array([each.border for each in stats]).reshape(-1, 3).T
    background = np.array([each.background for each in stats]).reshape(-1, 3)
    table = manifest.assign(border_red=red, border_green=green, border_blue=blue)
    return table.assign(**dict(zip(BACKGROUND, background.T)))


def _unreadable_findings(failed: pd.DataFrame) -> Iterator[Finding]:
    if failed.empty:
        return
    first = failed.iloc[0]
    what = counted(len(failed), "image is", "images are")
    yield Finding(
        "unreadable",
        f"{what} missing, changed or unreadable, first {first['path']}: {first['reason'].removesuffix('.')}.",
    )


def _conflict_findings(conflicts: pd.DataFrame) -> Iterator[Finding]:
    if conflicts.empty:
        return
    what = counted(len(conflicts), "image has", "images have")
    text = f"{what} an exact copy with another label; all of them were left out, first {conflicts.iloc[0]['path']}."
    yield Finding("conflicting copies", text)


def split_findings(manifest: pd.DataFrame) -> Iterator[Finding]:
    """Report test splits that leave nothing to learn, and images that seem to be a test set but are trained on.

    Parameters
    ----------
    manifest : DataFrame

    Yields
    ------
    Finding
    """
    labelled, test = manifest["label"].notna(), manifest["split"].eq(TEST)
    trained = manifest[labelled & ~test]
    if trained.empty:
        text = "All labelled images have the split test, so there is none to train on."
        yield Finding("no image to train on", text)
    elif trained["label"].nunique() == 1:
        label = trained["label"].iloc[0]
        yield Finding("one class", f"There is only one class, {label}: a classifier needs two.")
    only = sorted(set(manifest.loc[labelled & test, "label"]) - set(trained["label"]))
    if only and not trained.empty:
        text = f"These labels occur only in the split test, so no network learns them: {', '.join(only)}."
        yield Finding("classes of the test alone", text)
    for source, rows in trained.groupby("source"):
        # A data set's own words, such as TestA; in a user's sources the split is train, val or test.
        words = sorted(str(word) for word in rows["split"].dropna().unique() if parse_split(str(word)) == TEST)
        num_images = int(rows["split"].isin(words).sum())
        if not words and rows["split"].isna().all() and parse_split(str(source)) == TEST:
            words, num_images = [str(source)], len(rows)
        if words:
            text = (
                f"{', '.join(words)} of source {source} is named as a test set, but its {num_images:,} images are "
                "trained on and scored. To keep them apart, give them the split test: in a table, or by a folder named "
                "test above the class folders."
            )
            yield Finding("named as a test set", text)


def _pair_findings(pairs: pd.DataFrame) -> Iterator[Finding]:
    for kind in _SERIOUS:
        here = pairs[pairs["kind"] == kind]
        if here.empty:
            continue
        first = here.iloc[0]
        a, b = (_image_with_detail(first, side, kind) for side in ("a", "b"))
        num = counted(len(here), "pair", "pairs")
        view = "" if first["view"] == UNCHANGED else f" ({first['view']})"
        example = f"{'first ' if len(here) > 1 else ''}{a} and {b}{view}"
        yield Finding(
            f"near duplicates: {kind}",
            f"Near duplicates, {kind}: {num}, {example}; {PAIR_KINDS[kind]}. Compare them and drop one.",
        )


def _image_with_detail(pair: pd.Series, side: str, kind: str) -> str:
    """Return an image of a pair, with its label or patient where those differ."""
    detail = {"labels differ": f" ({pair[f'label_{side}']})", "patients differ": f" ({pair[f'patient_{side}']})"}
    return pair[f"image_{side}"] + detail.get(kind, "")


def _shortcut_findings(shortcuts: list[Shortcut], manifest: pd.DataFrame) -> Iterator[Finding]:
    for shortcut in (each for each in shortcuts if each.found):
        where = f"within {shortcut.scope}" if shortcut.scope != ALL_SOURCES else "over all sources"
        numbers = f"{shortcut.score:.2f}, chance {shortcut.chance:.2f}"
        here = manifest if shortcut.scope == ALL_SOURCES else manifest[manifest["source"] == shortcut.scope]
        if shortcut.what == ORDER:
            advice = ", and provide patients" if here["patient"].isna().any() else ""
            text = (
                f"Shortcut, file order {where}: images have the label of the one before more often than by chance "
                f"({numbers}). Neighbours may be of one patient: never use names or order as features{advice}."
            )
        else:
            named = ", ".join(list(shortcut.classes)[:5])
            which = f"gives {named} away" if named else "gives labels away"
            unknown = " Patients are unknown, so it may be a patient's stain." if here["patient"].isna().all() else ""
            text = (
                f"Shortcut, {shortcut.what} {where}: it {which} (balanced accuracy {numbers}). A network would learn "
                f"that instead of the cell: crop or correct these images, or leave them out.{unknown}"
            )
        yield Finding(f"shortcut: {shortcut.what}", text)


def _small_class_findings(manifest: pd.DataFrame, num_folds: int) -> Iterator[Finding]:
    counts = patients_per_class(manifest)
    small = counts[counts < num_folds]
    if small.empty:
        return
    listed = ", ".join(f"{code} ({small[code]})" for code in in_order_of_maturation(small.index))
    text = f"Classes with fewer patients than the {num_folds} folds cannot be scored honestly: {listed}."
    yield Finding("too few patients", text)


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value
