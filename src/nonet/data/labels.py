"""Labels as sources write them: merged where they read alike, and replaced by codes where they name a class."""

from collections.abc import Collection
from pathlib import Path

from nonet.cells import CELLS, class_code
from nonet.data.selection import EXTRA_NAMES, Selection
from nonet.data.sources.base import EXTRA_LABELS
from nonet.data.sources.tables import read_table
from nonet.data.sources.vocabulary import canonical_form, has_look_alikes, is_missing_value, visible
from nonet.errors import DataError, did_you_mean


def label_code(label: str) -> str | None:
    """Return which of the thirteen codes a label names.

    Parameters
    ----------
    label : str

    Returns
    -------
    str or None
    """
    return class_code(label) or class_code(canonical_form(label))


def name_code(name: str) -> str | None:
    """Return the code of a class or of another kind of cell, such as an erythroblast, by code or name; None for others.

    Parameters
    ----------
    name : str

    Returns
    -------
    str or None
        One of the thirteen codes or of `EXTRA_LABELS`.
    """
    return label_code(name) or EXTRA_NAMES.get(canonical_form(name)) or match_label(name, EXTRA_LABELS)


def match_label(label: str, known: Collection[str]) -> str | None:
    """Return the known label that a person means by a label.

    Parameters
    ----------
    label : str
    known : collection of str

    Returns
    -------
    str or None
    """
    if label in known:
        return label
    alike = [other for other in sorted(known) if canonical_form(other) == canonical_form(label)]
    if alike:
        return alike[0]
    code = label_code(label)
    return code if code in known else None


def tidy_labels(selection: Selection, wanted: set[str] | None) -> None:
    """Merge labels that read alike, and replace names by codes where codes are wanted.

    Parameters
    ----------
    selection : Selection
        Its column `label` is changed; gets a note for every change.
    wanted : set of str or None
        Labels of `classes`; None for all.
    """
    _drop_unknown(selection)
    _join_alike(selection, wanted or set())
    _name_codes(selection, wanted)


def _drop_unknown(selection: Selection) -> None:
    """Remove labels that say that the label is unknown: their images are unlabelled."""
    labels = selection.rows["label"]
    counts = labels.value_counts()
    words = [label for label in counts.index if is_missing_value(label)]
    if not words:
        return
    selection.rows["label"] = labels.mask(labels.isin(words), None)
    listed = ", ".join(f"{label} {counts[label]:,}" for label in words)
    selection.notes.append(f"Labels read as unlabelled: {listed}.")


def _join_alike(selection: Selection, wanted: set[str]) -> None:
    counts = selection.rows["label"].value_counts()
    groups: dict[str, list[str]] = {}
    for label in counts.index:
        groups.setdefault(canonical_form(label), []).append(label)
    renamed: dict[str, str] = {}
    merged = []
    for labels in groups.values():
        # Preferably a requested label or a code, then the most common, then the shortest, which is the singular.
        preferred = min(
            labels, key=lambda label: (label not in wanted, label not in CELLS, -counts[label], len(label), label)
        )
        plain = visible(preferred)
        renamed |= {label: plain for label in labels if label != plain}
        if len(labels) > 1:
            spellings = ", ".join(f"{_shown(label)} {counts[label]:,}" for label in sorted(labels))
            merged.append(f"{spellings} as {plain}")
    _rename(selection, renamed)
    if merged:
        selection.notes.append(f"Labels that read alike were merged: {'; '.join(merged)} (images of each).")


def _shown(label: str) -> str:
    """Return a label with escapes where it contains invisible characters, or letters that look like others."""
    return ascii(label) if label != visible(label) or has_look_alikes(label) else label


def _name_codes(selection: Selection, wanted: set[str] | None) -> None:
    labels = sorted(selection.rows["label"].dropna().unique())
    targets = set(labels) if wanted is None else wanted
    codes = {label: label_code(label) or EXTRA_NAMES.get(canonical_form(label)) for label in labels}
    renamed: dict[str, str] = {}
    for label, code in codes.items():
        if label in targets and wanted is not None:
            continue
        requested = [other for other in sorted(wanted or ()) if canonical_form(other) == canonical_form(label)]
        if requested:
            renamed[label] = requested[0]
        elif code is not None and code in targets and code != label:
            renamed[label] = code
    _rename(selection, renamed)
    if renamed:
        listed = ", ".join(f"{label} as {code}" for label, code in renamed.items())
        selection.notes.append(f"Labels read as classes: {listed}.")
    if wanted is None:
        labels_by_code: dict[str, list[str]] = {}
        for label, code in codes.items():
            if code is not None and label not in renamed:
                labels_by_code.setdefault(code, []).append(label)
        several = [f"{' and '.join(labels)} ({code})" for code, labels in labels_by_code.items() if len(labels) > 1]
        if several:
            selection.notes.append(
                f"Labels that name the same cell are separate classes: {'; '.join(several)}. To merge them: "
                "`classes=13` or `labels=MAP.csv`."
            )


def _rename(selection: Selection, renamed: dict[str, str]) -> None:
    if renamed:
        labels = selection.rows["label"].map(lambda label: renamed.get(label, label))
        selection.rows["label"] = labels.astype(object)


def read_label_map(path: str | Path) -> dict[str, tuple[str, str]]:
    """Read a CSV file with the columns from and to, which renames labels; an empty `to` leaves their images out.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        Canonical form of `from` → (`from` as written, `to`).

    Raises
    ------
    DataError
        When a column is missing, or a label has two meanings, in which case the line is named.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    if not {"from", "to"} <= set(table.columns):
        raise DataError(
            f"{path} has columns {', '.join(table.columns)}.",
            hint="Give the columns from,to: a label of the sources, and the new one.",
        )
    meanings: dict[str, tuple[str, str]] = {}
    for line, upstream, ours in zip(table.index, table["from"], table["to"]):
        old = meanings.setdefault(canonical_form(upstream), (upstream, ours))
        if old[1] != ours:
            raise DataError(
                f'{path}, line {line}: "{upstream}" becomes "{ours}" here, but "{old[0]}" becomes "{old[1]}" above.',
                hint="Remove one of the two lines.",
            )
    return meanings


def apply_label_map(selection: Selection, path: str | Path) -> None:
    """Rename labels, or leave their images out, as a file says.

    Parameters
    ----------
    selection : Selection
    path : str or Path
        See `read_label_map`.

    Raises
    ------
    DataError
        As `read_label_map`, and when the sources have none of the file's labels.
    """
    meanings, file = read_label_map(path), Path(path).name
    labels = sorted(selection.rows["label"].dropna().unique())
    new_labels = {label: meanings[canonical_form(label)][1] for label in labels if canonical_form(label) in meanings}
    if not new_labels:
        raise DataError(f"{path}: the sources have none of its labels.", hint=f"They have: {', '.join(labels)}.")
    dropped = selection.rows["label"].isin([label for label, new in new_labels.items() if not new])
    selection.exclude(dropped, lambda row: f"left out by {file}: label {row.label}")
    changed = selection.rows["label"].isin(list(new_labels))
    selection.rows.loc[changed, "opt_in_reason"] = None  # it was the old label's
    renamed = {label: new for label, new in new_labels.items() if new}
    _rename(selection, renamed)
    listed = ", ".join(f"{old} as {new}" for old, new in renamed.items())
    selection.notes.append(f"{file}: labels renamed: {listed or 'none'}.")
    others = [label for label in labels if label not in new_labels]
    if others:
        selection.notes.append(f"{file}: labels that it does not list are unchanged: {', '.join(others)}.")
    used = {canonical_form(label) for label in new_labels}
    absent = [upstream for form, (upstream, _) in meanings.items() if form not in used]
    if absent:
        close = did_you_mean(absent[0], others)
        selection.notes.append(f"{file}: labels that no source has: {', '.join(absent)}. {close}".strip())
