"""What a dataset should be looked at for before it is trained on: copies, leaks, shortcuts, classes too small."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from nonet.cells import in_order_of_maturation, name_of
from nonet.data.checks.near_duplicates import near_duplicates
from nonet.data.checks.shortcuts import ORDER, Shortcut, find_shortcuts
from nonet.data.folds import NUM_FOLDS, patients_per_class
from nonet.data.images.image_stats import Look
from nonet.data.manifest import in_words
from nonet.data.patients import patient_findings
from nonet.data.sources.splits import TEST, split_of

PAIR_COLUMNS = ["image_a", "image_b", "label_a", "label_b", "patient_a", "patient_b", "similarity", "view", "kind"]
#: Kinds of near duplicates, the gravest first, and what each means.
PAIR_KINDS = {
    "labels differ": "one picture under two labels",
    "test": "a score on the test would be too good",
    "patients differ": "a leak: both sides of a split may have it",
    "patient unknown": "perhaps a leak: no fold keeps them together",
    "same original": "versions of one image, kept together by folds",
    "same patient": "kept together by folds by patient",
}
_GRAVE = ("labels differ", "test", "patients differ", "patient unknown")


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, in a word or two, and a sentence or two that say what, where and what to do."""

    kind: str
    text: str


@dataclass(frozen=True)
class Checks:
    """What the checks of a dataset found.

    Attributes
    ----------
    findings : what should be looked at; empty for a clean dataset.
    pairs : DataFrame of near duplicates, PAIR_COLUMNS; kind is one of PAIR_KINDS, the gravest that fits.
    shortcuts : everything that was tried, found or not.
    counts : DataFrame (class, name, source, images, patients, unknown), one row a class and source that has images.
    copies, conflicts, unreadable : DataFrames (path, source, label, reason) of what was left out or cannot be read.
    num_images : of the manifest.
    num_folds : that a class should have patients for.
    """

    findings: list[Finding]
    pairs: pd.DataFrame
    shortcuts: list[Shortcut]
    counts: pd.DataFrame
    copies: pd.DataFrame
    conflicts: pd.DataFrame
    unreadable: pd.DataFrame
    num_images: int
    num_folds: int

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        return in_words([finding.text for finding in self.findings])

    def as_json(self) -> dict:
        """Return plain lists and dicts; a number that is not there is None."""
        tables = ("pairs", "counts", "copies", "conflicts", "unreadable")
        data = {"num_images": self.num_images, "findings": [asdict(finding) for finding in self.findings]}
        data |= {name: getattr(self, name).to_dict("records") for name in tables}
        return _plain(data | {"shortcuts": [asdict(shortcut) for shortcut in self.shortcuts]})


def run_checks(
    manifest: pd.DataFrame,
    looks: list[Look | None],
    excluded: pd.DataFrame,
    *,
    unreadable: pd.DataFrame | None = None,
    num_folds: int = NUM_FOLDS,
) -> Checks:
    """Check a dataset whose images have been read.

    Parameters
    ----------
    manifest : of the dataset.
    looks : of each row, None where the image cannot be read; rows without are left out of what needs pixels.
    excluded : what the build left out: path, source, label, reason.
    unreadable : same columns: images of the manifest that are missing, changed or unreadable now.
    num_folds : that will be trained with: a class of fewer patients cannot be scored.

    Returns
    -------
    Checks.
    """
    there = np.array([look is not None for look in looks], dtype=bool)
    seen = manifest[there].reset_index(drop=True)
    looks = [look for look in looks if look is not None]
    reason = excluded["reason"].astype(str)
    failed = excluded[reason.str.match("unreadable|missing|changed|could not be read now")]
    if unreadable is not None:
        failed = pd.concat([failed, unreadable], ignore_index=True)
    pairs, shortcuts = _pairs(seen, looks), _shortcuts(seen, looks)
    copies, conflicts = excluded[reason.str.startswith("duplicate image")], excluded[reason.str.startswith("conflict")]
    counts = class_counts(manifest)
    findings = [
        *_failed_words(failed),
        *_conflict_words(conflicts),
        *(Finding(*found) for found in split_findings(manifest)),
        *(Finding(*found) for found in patient_findings(manifest)),
        *_pair_words(pairs),
        *_shortcut_words(shortcuts, seen),
        *_small_words(manifest, num_folds),
    ]
    return Checks(findings, pairs, shortcuts, counts, copies, conflicts, failed, len(manifest), num_folds)


def class_counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return images, known patients and images of unknown patient per class and source; see Checks.counts."""
    labelled = manifest[manifest["label"].notna()]
    rows = []
    for code in in_order_of_maturation(labelled["label"].unique()):
        for source, part in labelled[labelled["label"] == code].groupby("source"):
            numbers = (len(part), part["patient"].nunique(), int(part["patient"].isna().sum()))
            rows.append((code, name_of(code), source, *numbers))
    return pd.DataFrame(rows, columns=["class", "name", "source", "images", "patients", "unknown"])


def _pairs(seen: pd.DataFrame, looks: list[Look]) -> pd.DataFrame:
    if len(seen) < 2:
        return pd.DataFrame(columns=PAIR_COLUMNS)
    found = near_duplicates(np.stack([look.small for look in looks]))
    a, b = (seen.iloc[found[side]].reset_index(drop=True) for side in ("first", "second"))
    both_labelled, both_known = a["label"].notna() & b["label"].notna(), a["patient"].notna() & b["patient"].notna()
    original = seen.get("original_image_id", pd.Series(None, index=seen.index, dtype=object)).to_numpy()
    one_original = pd.notna(original[found["first"]]) & (original[found["first"]] == original[found["second"]])
    kind = np.select(
        [
            both_labelled & a["label"].ne(b["label"]),
            a["split"].eq("test") ^ b["split"].eq("test"),
            a["split"].eq("test") & b["split"].eq("test"),
            ~a["evaluate"] & ~b["evaluate"],
            one_original,
            both_known & a["patient"].ne(b["patient"]),
            ~both_known,
        ],
        ["labels differ", "test", "both test", "neither scored", "same original", "patients differ", "patient unknown"],
        "same patient",
    )
    columns = {f"{name}_{side}": rows[name] for name in ("label", "patient") for side, rows in (("a", a), ("b", b))}
    pairs = pd.DataFrame({"image_a": a["image_id"], "image_b": b["image_id"]} | columns)
    pairs = pairs.assign(similarity=found["similarity"].round(4), view=found["view"], kind=kind)[PAIR_COLUMNS]
    # Neither is trained on, or neither is scored: nothing leaks.
    pairs = pairs[~pairs["kind"].isin(["both test", "neither scored"])]
    rank = pairs["kind"].map({name: i for i, name in enumerate(PAIR_KINDS)})
    return pairs.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)


def _shortcuts(seen: pd.DataFrame, looks: list[Look]) -> list[Shortcut]:
    borders = np.array([look.border for look in looks]).reshape(-1, 3)
    table = seen.assign(**dict(zip(("border_red", "border_green", "border_blue"), borders.T)))
    return find_shortcuts(table[table["label"].notna() & table["split"].ne("test")])


def _failed_words(failed: pd.DataFrame) -> list[Finding]:
    if failed.empty:
        return []
    first = failed.iloc[0]
    what = "1 image is" if len(failed) == 1 else f"{len(failed):,} images are"
    return [
        Finding(
            "unreadable",
            f"{what} missing, changed or unreadable, first {first['path']}: {first['reason'].removesuffix('.')}.",
        )
    ]


def _conflict_words(conflicts: pd.DataFrame) -> list[Finding]:
    if conflicts.empty:
        return []
    what = "1 image has" if len(conflicts) == 1 else f"{len(conflicts):,} images have"
    text = f"{what} an exact copy under another label; none of them was kept. First: {conflicts.iloc[0]['path']}."
    return [Finding("conflicting copies", text)]


def split_findings(manifest: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (kind, sentence) where a test leaves nothing to learn, or seems to be one and is trained on."""
    labelled, test = manifest["label"].notna(), manifest["split"].eq(TEST)
    trained = manifest[labelled & ~test]
    findings = []
    if trained.empty:
        findings.append(("no image to train on", "All labelled images are of split test: none is trained on."))
    elif trained["label"].nunique() == 1:
        one = trained["label"].iloc[0]
        findings.append(("one class", f"There is only one class, {one}: a classifier needs two."))
    only = sorted(set(manifest.loc[labelled & test, "label"]) - set(trained["label"]))
    if only and not trained.empty:
        text = f"Only images of split test have these labels, so no network learns them: {', '.join(only)}."
        findings.append(("classes of the test alone", text))
    for source, rows in trained.groupby("source"):
        # Words of a data set's own, like TestA; sources of a user's have train, val and test only.
        words = sorted(word for word in rows["split"].dropna().unique() if split_of(word) == TEST)
        num_images = int(rows["split"].isin(words).sum())
        if not words and rows["split"].isna().all() and split_of(source) == TEST:
            words, num_images = [source], len(rows)
        if words:
            findings.append(
                (
                    "named as a test set",
                    f"{', '.join(words)} of source {source} is named as a test set, but its {num_images:,} images are "
                    "trained on and scored. If they are to be kept apart, give them the split test: in a table, or by "
                    "a folder named test above the folders of classes.",
                )
            )
    return findings


def _pair_words(pairs: pd.DataFrame) -> list[Finding]:
    findings = []
    for kind in _GRAVE:
        here = pairs[pairs["kind"] == kind]
        if here.empty:
            continue
        first = here.iloc[0]
        a, b = (_who(first, side, kind) for side in ("a", "b"))
        num = "1 pair" if len(here) == 1 else f"{len(here):,} pairs"
        view = "" if first["view"] == "as it is" else f" ({first['view']})"
        example = f"{'first ' if len(here) > 1 else ''}{a} and {b}{view}"
        findings.append(
            Finding(
                f"near duplicates: {kind}",
                f"Near duplicates, {kind}: {num}, {example}; {PAIR_KINDS[kind]}. Look at them and drop one.",
            )
        )
    return findings


def _who(pair: pd.Series, side: str, kind: str) -> str:
    if kind == "labels differ":
        return f"{pair[f'image_{side}']} ({pair[f'label_{side}']})"
    return (
        f"{pair[f'image_{side}']} ({pair[f'patient_{side}']})" if kind == "patients differ" else pair[f"image_{side}"]
    )


def _shortcut_words(shortcuts: list[Shortcut], seen: pd.DataFrame) -> list[Finding]:
    findings = []
    for shortcut in (each for each in shortcuts if each.found):
        where = f"within {shortcut.scope}" if shortcut.scope != "all sources" else "over all sources"
        numbers = f"{shortcut.score:.2f}, chance {shortcut.chance:.2f}"
        here = seen if shortcut.scope == "all sources" else seen[seen["source"] == shortcut.scope]
        if shortcut.what == ORDER:
            give = ", and give patients" if here["patient"].isna().any() else ""
            text = (
                f"Shortcut, file order {where}: an image has the label of the one before it more often than chance "
                f"({numbers}). Neighbours may be of one patient: never use names or order{give}."
            )
        else:
            named = ", ".join(list(shortcut.classes)[:5])
            which = f"gives {named} away" if named else "gives labels away"
            unknown = " It may be a patient's look: patients are unknown." if here["patient"].isna().all() else ""
            text = (
                f"Shortcut, {shortcut.what} {where}: it {which} (balanced accuracy {numbers}). A network will learn "
                f"that instead of the cell: crop or correct these images, or leave them out.{unknown}"
            )
        findings.append(Finding(f"shortcut: {shortcut.what}", text))
    return findings


def _small_words(manifest: pd.DataFrame, num_folds: int) -> list[Finding]:
    counts = patients_per_class(manifest)
    small = counts[counts < num_folds]
    if small.empty:
        return []
    listed = ", ".join(f"{code} ({small[code]})" for code in in_order_of_maturation(small.index))
    few = f"fewer patients than {num_folds} folds"
    return [Finding("too few patients", f"Cannot be honestly scored, {few}: {listed}.")]


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value
