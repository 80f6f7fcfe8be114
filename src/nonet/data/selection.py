"""The images that are on their way into a dataset, and which of them it takes: by class, by what the paper used."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nonet.cells import CELLS, CLASSES
from nonet.data.gather import require_sources
from nonet.data.sources import SOURCES
from nonet.data.sources.base import EXTRA_LABELS
from nonet.data.sources.listing import Listing
from nonet.data.sources.vocabulary import canonical_form
from nonet.errors import DataError

#: Canonical form of what the label means → label.
EXTRA_NAMES = {canonical_form(words.split(",")[0]): label for label, words in EXTRA_LABELS.items()}


@dataclass
class Selection:
    """The images that a dataset is going to have, and what was left out so far.

    Attributes
    ----------
    rows : DataFrame
        One row per image, with the columns of `nonet.data.sources.listing.ROW` and image_id; once images were read,
        also those of the manifest.
    excluded : list of dict
        One per image or file that was left out: path, source, label, reason.
    notes : list of str
        Sentences for the user.
    """

    rows: pd.DataFrame
    excluded: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def exclude(self, where: pd.Series, reason: str | Callable[[Any], str]) -> None:
        """Remove rows, and record why.

        Parameters
        ----------
        where : Series of bool
            Which rows, with the index of `rows`.
        reason : str or callable
            The words up to a colon are its kind, by which exclusions are counted. A function gets the row as a named
            tuple.
        """
        for row in self.rows[where].itertuples():
            text = reason if isinstance(reason, str) else reason(row)
            self.excluded.append(
                {"path": str(row.path), "source": str(row.source), "label": str(row.label or ""), "reason": text}
            )
        self.rows = self.rows[~where].copy()

    def exclude_each(self, reasons: Mapping[Any, str]) -> None:
        """Remove rows for a reason each, and record it.

        Parameters
        ----------
        reasons : mapping
            Index of a row → reason.
        """
        where = pd.Series(self.rows.index.isin(list(reasons)), index=self.rows.index)
        self.exclude(where, lambda row: reasons[row.Index])


def select_from_listings(listings: Iterable[Listing]) -> Selection:
    """Collect the images of all sources.

    Parameters
    ----------
    listings : iterable of Listing

    Returns
    -------
    Selection
    """
    listings = list(listings)
    rows = pd.concat([listing.table() for listing in listings], ignore_index=True)
    rows["image_id"] = rows["source"] + "/" + rows["path"]
    rows["unknown_type"] = None
    excluded = [row for listing in listings for row in listing.excluded]
    return Selection(rows, excluded, [note for listing in listings for note in listing.notes])


def wanted_classes(classes: str | list[str] | None) -> set[str] | None:
    """Return the labels that `classes` names.

    Parameters
    ----------
    classes : str, list of str, or None
        "13" stands for nonet's thirteen.

    Returns
    -------
    set of str or None
        None where `classes` is None.

    Raises
    ------
    DataError
        When the list is empty.
    """
    if classes is None:
        return None
    listed = [item.strip() for item in ([classes] if isinstance(classes, str) else classes)]
    codes = {canonical_form(code): code for code in (*CLASSES, *EXTRA_LABELS)}  # so that "ly" is LY
    wanted = {
        code for item in listed for code in (CLASSES if item == "13" else [codes.get(canonical_form(item), item)])
    }
    wanted -= {""}
    if not wanted:
        raise DataError("The list of classes is empty.", hint="Leave it out to keep all labels, or give 13.")
    return wanted


def mark_external(selection: Selection, external: list[str]) -> None:
    """Mark sources as external: trained on, and left out of every score.

    Parameters
    ----------
    selection : Selection
        Its column `evaluate` is changed.
    external : list of str
        Names of sources.

    Raises
    ------
    DataError
        When there is no source of one of these names.
    """
    require_sources(selection.rows["source"].unique(), external, "external")
    selection.rows.loc[selection.rows["source"].isin(external), "evaluate"] = False


def limit_to_paper(selection: Selection, listings: Iterable[Listing], names: list[str]) -> None:
    """Limit sources to the classes that the paper used.

    Parameters
    ----------
    selection : Selection
    listings : iterable of Listing
    names : list of str
        Names of sources.

    Raises
    ------
    DataError
        When there is no source of one of these names, or the paper used nothing of it.
    """
    rows = selection.rows
    require_sources(rows["source"].unique(), names, "paper")
    kinds = {row["source"]: SOURCES[listing.kind] for listing in listings for row in listing.rows}
    dropped = pd.Series(False, index=rows.index)
    for name in names:
        used = kinds[name].paper
        if used is None:
            continue
        if not used:
            raise DataError(
                f"The paper used no image of {name} ({kinds[name].name}).", hint=f"Leave {name} out of `paper`."
            )
        # Images without a code are left out for that reason, which is more informative.
        has_code = rows["label"].notna() & rows["opt_in_reason"].isna()
        here = rows["source"].eq(name) & has_code
        dropped |= here & ~rows["label"].isin(used)
        num_left, num_here = int((here & ~dropped).sum()), int(here.sum())
        selection.notes.append(
            f"{name}: limited to what the paper used, {', '.join(sorted(used))}: {num_left:,} of {num_here:,} images "
            "with a code, before copies are left out."
        )
    selection.exclude(dropped, lambda row: f"not used by the paper: {row.label}")


def drop_opt_in(selection: Selection, wanted: set[str] | None) -> None:
    """Drop images whose label has no code, unless `classes` names it.

    Parameters
    ----------
    selection : Selection
    wanted : set of str or None
        Labels of `classes`.
    """
    unwanted = selection.rows["opt_in_reason"].notna() & ~selection.rows["label"].isin(wanted or ())
    for source, rows in selection.rows[unwanted].groupby("source"):
        counts = ", ".join(f"{label} {count:,}" for label, count in rows["label"].value_counts().sort_index().items())
        selection.notes.append(
            f"{source}: left out as none of the thirteen classes: {counts}. To include one, name it in `classes`."
        )
    selection.exclude(unwanted, lambda row: row.opt_in_reason)


def drop_other_labels(selection: Selection, wanted: set[str] | None) -> None:
    """Drop images whose label is not wanted; unlabelled ones stay.

    Parameters
    ----------
    selection : Selection
    wanted : set of str or None
        Labels of `classes`; None for all.
    """
    if wanted is None:
        return
    other = selection.rows["label"].notna() & ~selection.rows["label"].isin(wanted)
    if other.any():
        selection.notes.append(outside_note(selection.rows.loc[other, "label"], wanted))
    selection.exclude(other, lambda row: f"label outside the classes: {row.label}")


def outside_note(labels: pd.Series, wanted: set[str]) -> str:
    """Return a sentence on labels left out by `classes`, with the class that each may mean.

    Parameters
    ----------
    labels : Series of str
        Of the images that are left out.
    wanted : set of str
        Labels of `classes`.

    Returns
    -------
    str
    """
    names = {CELLS[code].name: code for code in CLASSES if code in wanted}
    parts = []
    for label, count in labels.value_counts().sort_index().items():
        form = canonical_form(str(label))
        near = difflib.get_close_matches(form, names, n=1, cutoff=0.8)
        remark = f" (perhaps {names[near[0]]}, {near[0]})" if near else ""
        if form in EXTRA_NAMES:
            remark = f" (`classes={EXTRA_NAMES[form]}` includes it)"
        parts.append(f"{label} {count:,}{remark}")
    return f"Left out as outside `classes`: {', '.join(parts)}. To rename labels: `labels=MAP.csv` (from,to)."
