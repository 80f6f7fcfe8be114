"""Labels as sources write them, made one where a person reads them as one, and codes where they name a class."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from nonet.cells import CELLS, code_of
from nonet.data.selection import exclude
from nonet.data.sources.base import EXTRA_LABELS
from nonet.data.sources.tables import read_table
from nonet.data.sources.vocabulary import has_look_alikes, is_not_known, read_alike, visible
from nonet.errors import DataError, did_you_mean

_EXTRA = {read_alike(words.split(",")[0]): code for code, words in EXTRA_LABELS.items()}


def label_code(label: str) -> str | None:
    """Return the code of the thirteen that a label names, or None."""
    return code_of(label) or code_of(read_alike(label))


def match_label(label: str, known: Collection[str]) -> str | None:
    """Return the label of those known that a person means by this one, or None."""
    if label in known:
        return label
    alike = [other for other in sorted(known) if read_alike(other) == read_alike(label)]
    if alike:
        return alike[0]
    code = label_code(label)
    return code if code in known else None


def tidy_labels(table: pd.DataFrame, wanted: set[str] | None, notes: list[str]) -> None:
    """Make labels one that read alike, and codes of names where codes are wanted; in place, with notes.

    Parameters
    ----------
    table : of the sources; its column label is changed.
    wanted : labels asked for by `classes`, None for all.
    notes : get a sentence for whatever was changed.
    """
    _drop_unknown(table, notes)
    _join_alike(table, wanted or set(), notes)
    _name_codes(table, wanted, notes)


def _drop_unknown(table: pd.DataFrame, notes: list[str]) -> None:
    """Take a label away that says that the label is not known: its images are unlabelled."""
    counts = table["label"].value_counts()
    words = [label for label in counts.index if is_not_known(label)]
    if not words:
        return
    table["label"] = table["label"].mask(table["label"].isin(words), None)
    told = ", ".join(f"{label} {counts[label]:,}" for label in words)
    notes.append(f"Labels read as unlabelled: {told}.")


def _join_alike(table: pd.DataFrame, wanted: set[str], notes: list[str]) -> None:
    counts = table["label"].value_counts()
    groups: dict[str, list[str]] = {}
    for label in counts.index:
        groups.setdefault(read_alike(label), []).append(label)
    renamed, told = {}, []
    for labels in groups.values():
        # A code or what was asked for, then the most common, then the shortest: the singular.
        kept = min(
            labels, key=lambda label: (label not in wanted, label not in CELLS, -counts[label], len(label), label)
        )
        plain = visible(kept)
        renamed |= {label: plain for label in labels if label != plain}
        if len(labels) > 1:
            spelt = ", ".join(f"{_shown(label)} {counts[label]:,}" for label in sorted(labels))
            told.append(f"{spelt} as {plain}")
    _rename(table, renamed)
    if told:
        notes.append(f"Labels that read alike were merged: {'; '.join(told)} (images of each).")


def _shown(label: str) -> str:
    """Return a label with escapes where it holds what cannot be seen, or letters that look like others."""
    return ascii(label) if label != visible(label) or has_look_alikes(label) else label


def _name_codes(table: pd.DataFrame, wanted: set[str] | None, notes: list[str]) -> None:
    labels = sorted(table["label"].dropna().unique())
    aims = set(labels) if wanted is None else wanted
    codes = {label: label_code(label) or _EXTRA.get(read_alike(label)) for label in labels}
    renamed = {}
    for label, code in codes.items():
        asked = [other for other in sorted(wanted or ()) if read_alike(other) == read_alike(label)]
        if label in aims and wanted is not None:
            continue
        if asked:
            renamed[label] = asked[0]
        elif code in aims and code != label:
            renamed[label] = code
    _rename(table, renamed)
    if renamed:
        told = ", ".join(f"{label} as {code}" for label, code in renamed.items())
        notes.append(f"Labels read as classes: {told}.")
    if wanted is None:
        named: dict[str, list[str]] = {}
        for label, code in codes.items():
            if code is not None and label not in renamed:
                named.setdefault(code, []).append(label)
        twice = [f"{' and '.join(labels)} ({code})" for code, labels in named.items() if len(labels) > 1]
        if twice:
            notes.append(
                f"Labels that name the same cell are separate classes: {'; '.join(twice)}. To merge them: `classes=13` "
                "or `labels=MAP.csv`."
            )


def _rename(table: pd.DataFrame, renamed: dict[str, str]) -> None:
    if renamed:
        table["label"] = table["label"].map(lambda label: renamed.get(label, label)).astype(object)


def read_label_map(path: str | Path) -> dict[str, tuple[str, str]]:
    """Read a CSV file from,to: what labels are to be called; an empty `to` leaves their images out.

    Returns
    -------
    `from` as it is compared → (`from` as written, `to`).

    Raises
    ------
    DataError, naming the line, where a label is there twice with two meanings, or a column is missing.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    if not {"from", "to"} <= set(table.columns):
        raise DataError(
            f"{path} has columns {', '.join(table.columns)}.", hint="Give from,to: a label of the sources, and ours."
        )
    meanings: dict[str, tuple[str, str]] = {}
    for line, upstream, ours in zip(table.index, table["from"], table["to"]):
        old = meanings.setdefault(read_alike(upstream), (upstream, ours))
        if old[1] != ours:
            raise DataError(f'{path}, line {line}: "{upstream}" is to be {ours}, and above {old[0]} {old[1]}.')
    return meanings


def apply_label_map(table: pd.DataFrame, path: str | Path, excluded: list[dict], notes: list[str]) -> pd.DataFrame:
    """Rename labels as a file says; return the table without those that it leaves out.

    Raises
    ------
    DataError as of `read_label_map`, and where no label of the sources is in the file.
    """
    meanings, file = read_label_map(path), Path(path).name
    labels = sorted(table["label"].dropna().unique())
    found = {label: meanings[read_alike(label)][1] for label in labels if read_alike(label) in meanings}
    if not found:
        raise DataError(f"{path}: the sources have none of its labels.", hint=f"They have: {', '.join(labels)}.")
    gone = table["label"].isin([label for label, ours in found.items() if not ours])
    for row in table[gone].itertuples():
        exclude(excluded, row, f"left out by {file}: label {row.label}")
    table = table[~gone].copy()
    changed = table["label"].isin(list(found))
    table.loc[changed, "only_if_asked"] = None  # the reason was the old label's
    _rename(table, {label: ours for label, ours in found.items() if ours})
    used = {read_alike(label) for label in found}
    absent = [upstream for key, (upstream, _) in meanings.items() if key not in used]
    others = [label for label in labels if label not in found]
    notes.append(
        f"{file}: labels renamed: {', '.join(f'{old} as {new}' for old, new in found.items() if new) or 'none'}."
    )
    if others:
        notes.append(f"{file}: labels that it does not have stay as they are: {', '.join(others)}.")
    if absent:
        close = did_you_mean(absent[0], others)
        notes.append(f"{file}: labels that no source has: {', '.join(absent)}. {close}".strip())
    return table
