"""Which images of the sources a dataset takes: by class, by what the paper takes, by what the user asks for."""

import difflib
from collections.abc import Iterable

import pandas as pd

from nonet.cells import CELLS, CLASSES
from nonet.data.sources import SOURCES
from nonet.data.sources.base import EXTRA_LABELS, Source
from nonet.data.sources.listing import Listing
from nonet.data.sources.vocabulary import read_alike
from nonet.errors import DataError


def wanted_classes(classes: str | list[str] | None) -> set[str] | None:
    """Return the codes that `classes` names, "13" standing for nonet's thirteen; None where it is not given."""
    if classes is None:
        return None
    listed = [item.strip() for item in ([classes] if isinstance(classes, str) else classes)]
    codes = {read_alike(code): code for code in (*CLASSES, *EXTRA_LABELS)}  # so that "ly" is LY
    wanted = {code for item in listed for code in (CLASSES if item == "13" else [codes.get(read_alike(item), item)])}
    wanted -= {""}
    if not wanted:
        raise DataError("The list of classes is empty.", hint="Leave it out to keep all labels, or give 13.")
    return wanted


def mark_external(table: pd.DataFrame, external: list[str]) -> None:
    """Set evaluate to False for these sources, in place. Raises DataError on a name that is no source."""
    _require_sources(table, external, "to be external")
    table.loc[table["source"].isin(external), "evaluate"] = False


def keep_paper(
    table: pd.DataFrame, listings: Iterable[Listing], names: list[str], excluded: list[dict], notes: list[str]
) -> pd.DataFrame:
    """Of the sources named, keep only what the paper takes; the rest is listed, and a note says so.

    Raises
    ------
    DataError on a name that is no source, or of which the paper takes nothing.
    """
    _require_sources(table, names, "to limit to what the paper takes")
    kinds = {row["source"]: SOURCES[listing.kind] for listing in listings for row in listing.rows}
    dropped = pd.Series(False, index=table.index)
    for name in names:
        taken = kinds[name].paper
        if taken is None:
            continue
        if not taken:
            raise DataError(
                f"The paper takes no image of {name} ({kinds[name].name}).", hint=f"Leave {name} out of `paper`."
            )
        # What has no code is left out for that reason, which says more.
        has_code = table["label"].notna() & table["only_if_asked"].isna()
        here = table["source"].eq(name) & has_code
        dropped |= here & ~table["label"].isin(taken)
        num_kept, num_here = int((here & ~dropped).sum()), int(here.sum())
        notes.append(
            f"{name}: limited to what the paper takes, {', '.join(sorted(taken))}: {num_kept:,} of {num_here:,} images "
            "with a code, before copies are left out."
        )
    for row in table[dropped].itertuples():
        exclude(excluded, row, f"not taken by the paper: {row.label}")
    return table[~dropped].copy()


def drop_unasked(table: pd.DataFrame, wanted: set[str] | None, excluded: list[dict], notes: list[str]) -> pd.DataFrame:
    """Drop images whose label has no code of ours, unless it is asked for; say how to ask for it."""
    unasked = table["only_if_asked"].notna() & ~table["label"].isin(wanted or ())
    for row in table[unasked].itertuples():
        exclude(excluded, row, row.only_if_asked)
    for source, rows in table[unasked].groupby("source"):
        counts = ", ".join(f"{label} {count:,}" for label, count in rows["label"].value_counts().sort_index().items())
        notes.append(
            f"{source}: without a code of the thirteen and left out: {counts}. To keep one, name it in `classes`."
        )
    return table[~unasked]


def drop_other_labels(
    table: pd.DataFrame, wanted: set[str] | None, excluded: list[dict], notes: list[str]
) -> pd.DataFrame:
    """Drop images whose label is not wanted, and say which labels these are; unlabelled ones stay."""
    if wanted is None:
        return table
    other = table["label"].notna() & ~table["label"].isin(wanted)
    for row in table[other].itertuples():
        exclude(excluded, row, f"label outside the classes: {row.label}")
    if other.any():
        notes.append(outside_note(table.loc[other, "label"], wanted))
    return table[~other]


def outside_note(labels: pd.Series, wanted: set[str]) -> str:
    """Return a sentence on labels left out by `classes`, with the class that each may mean."""
    names = {CELLS[code].name: code for code in CLASSES if code in wanted}
    extra = {read_alike(words.split(",")[0]): code for code, words in EXTRA_LABELS.items()}
    told = []
    for label, count in labels.value_counts().sort_index().items():
        near = difflib.get_close_matches(read_alike(label), names, n=1, cutoff=0.8)
        why = f" (perhaps {names[near[0]]}, {near[0]})" if near else ""
        if read_alike(label) in extra:
            why = f" (`classes={extra[read_alike(label)]}` keeps it)"
        told.append(f"{label} {count:,}{why}")
    return f"Left out as outside `classes`: {', '.join(told)}. To rename labels: `labels=MAP.csv` (from,to)."


def count_notes(source: Source, listing: Listing) -> list[str]:
    """Say where the counts of parts and labels are not those of the complete data set, as far as they are known.

    A part that is not there at all is no fault; labels are counted where all parts that have some are there.
    """
    pairs = [(part, listing.parts[part], count) for part, count in source.parts.items() if part in listing.parts]
    if listing.upstream:
        pairs += [(label, listing.upstream[label], count) for label, count in source.counts.items()]
    differ = [f"{name} {found:,} of {count:,}" for name, found, count in pairs if found != count]
    if not differ:
        return []
    return [f"not the complete data set, which has other counts: {', '.join(differ)}."]


def exclude(excluded: list[dict], row, reason: str) -> None:
    """List a row of the table as left out."""
    excluded.append({"path": row.path, "source": row.source, "label": row.label or "", "reason": reason})


def _require_sources(table: pd.DataFrame, names: list[str], what: str) -> None:
    have = sorted(table["source"].unique())
    unknown = sorted(set(names) - set(have))
    if unknown:
        raise DataError(
            f'There is no source "{unknown[0]}" {what}.', hint=f"Sources: {', '.join(have) or 'none with images'}."
        )
