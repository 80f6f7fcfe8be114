"""Patients as sources write them: which are unknown, which may be one person, and which findings would spoil scores."""

import re
import unicodedata
from collections.abc import Iterator

import pandas as pd

from nonet.data.checks.finding import Finding
from nonet.data.selection import Selection
from nonet.data.sources.vocabulary import is_missing_value, plain_letters
from nonet.data.unknown_types import has_unknown_type
from nonet.errors import DataError, counted

_PREFIXES = {"p", "pat", "pt", "patient", "subject", "subj", "case", "id", "no", "nr", "number", "num"}
_MONTH = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mrz|mai|okt|dez|fév|avr|juin|juil|août|déc|ene|abr|ago|dic"
)
#: Identifiers that spreadsheets changed: 2.02E+11, 123456789012345000 (they keep 15 digits), 3-Jan, 2024-01-03.
_DAMAGED = (
    re.compile(r"[+-]?\d+([.,]\d+)?e\+\d+", re.IGNORECASE),
    re.compile(r"\d{15}0+"),
    re.compile(rf"\d{{1,2}}[-. ]{{1,2}}({_MONTH})\.?|({_MONTH})\.?[-. ]\d{{1,2}}", re.IGNORECASE),
    re.compile(r"((19|20)\d\d-\d\d-\d\d|\d{1,2}\.\d{1,2}\.(19|20)\d\d|\d{1,2}/\d{1,2}/(\d{4}|\d\d))([ T]00:00(:00)?)?"),
)


def tidy_patients(selection: Selection) -> None:
    """Make patients unknown whose name says so, and merge names that look the same; in place.

    Names that differ only by invisible characters (surrounding or repeated blanks, zero-width characters, composed or
    decomposed accents) are certainly one person. Other names that may be one person stay separate: `patient_findings`
    reports them.

    Parameters
    ----------
    selection : Selection
        Its column `patient` is changed; gets a note for each kind of change.
    """
    table = selection.rows
    known = table["patient"].notna() & ~table["patient_is_standin"]
    if not known.any():
        return
    given = table.loc[known, "patient"].astype(str)
    plain = given.map({name: _visible(name) for name in given.unique()})
    num_joined = int(given.nunique() - plain.nunique())
    unknown = plain.map({name: is_missing_value(name, numbers=True) for name in plain.unique()}).astype(bool)
    table.loc[known, "patient"] = plain.mask(unknown, None)
    for source, words in plain[unknown].groupby(table["source"]):
        counts = ", ".join(f"{word or 'blank'} {count:,}" for word, count in words.value_counts().items())
        selection.notes.append(f"{source}: patients read as unknown: {counts} (images of each).")
    if num_joined:
        names = counted(num_joined, "patient name differs", "patient names differ")
        selection.notes.append(f"{names} from another only by invisible characters; they were merged.")


def _visible(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    name = "".join(" " if unicodedata.category(c) == "Zs" else c for c in name if unicodedata.category(c) != "Cf")
    return re.sub(r"\s+", " ", name).strip()


def patients_from_paths(selection: Selection, pattern: str, sources: set[str]) -> None:
    """Read unknown patients from the paths of their images; in place.

    Parameters
    ----------
    selection : Selection
        Its column `patient` is changed; gets a note on how many images the pattern matches.
    pattern : str
        Regular expression that is searched for in the path. Its group "patient", else its first group, else the whole
        match is the patient.
    sources : set of str
        Names of the sources to apply it to.

    Raises
    ------
    DataError
        When it is not a regular expression, or matches no path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f'`patient_from` "{pattern}" is not a regular expression: {error}.',
            hint=r'Like "(P\d+)_", with the patient in parentheses.',
        ) from error
    table = selection.rows
    group = "patient" if "patient" in compiled.groupindex else min(1, compiled.groups)
    here = table["source"].isin(sources) & table["patient"].isna()
    paths = table.loc[here, "path"]
    patients = paths.map(lambda path: (match := compiled.search(path)) and match.group(group)).astype(object)
    patients = patients.where(patients.notna() & patients.ne(""), None)
    if here.any() and patients.isna().all():
        raise DataError(
            f'`patient_from` "{pattern}" matches no path, the first of which is {paths.iloc[0]}.',
            hint="Try it on one path: the patient should be its first group.",
        )
    table.loc[here, "patient"] = patients
    without = int(patients.isna().sum())
    rest = f"; {without:,} paths do not match, first {paths[patients.isna()].iloc[0]}" if without else ""
    selection.notes.append(
        f"Patients read from paths: {patients.nunique():,} of {len(patients) - without:,} images, "
        f"first {patients.dropna().iloc[0]} from {paths[patients.notna()].iloc[0]}{rest}."
    )


def patient_findings(manifest: pd.DataFrame) -> list[Finding]:
    """Report what about the patients of a manifest would spoil scores.

    Parameters
    ----------
    manifest : DataFrame

    Returns
    -------
    list of Finding
        The most serious first.
    """
    rows = manifest[manifest["patient"].notna()]
    rows = rows.assign(name=[_name(patient, source) for patient, source in zip(rows["patient"], rows["source"])])
    given = rows[~rows["patient_is_standin"]]
    if given.empty:
        return [*_on_two_sides(rows), *_missing(manifest)]
    return [
        *_on_two_sides(rows),
        *_perhaps_one_person(given),
        *_changed_by_spreadsheet(given),
        *_in_two_sources(given),
        *_dominant_patient(given),
        *_missing(manifest),
    ]


def _name(patient: str, source: str) -> str:
    return patient.removeprefix(f"{source}/")


def _on_two_sides(rows: pd.DataFrame) -> Iterator[Finding]:
    """Report patients of the test set who are trained on, and patients of whom only some images are scored."""
    test = rows["split"].eq("test")
    labelled = rows["label"].notna() | has_unknown_type(rows)  # rejection learns from these
    trained = set(rows.loc[~test & labelled, "patient"])
    both = sorted(set(rows.loc[test, "patient"]) & trained)
    if both:
        images = counted(int((test & rows["patient"].isin(both)).sum()), "image", "images")
        text = (
            f"A leak: {_patients(both)} of split test also {'has' if len(both) == 1 else 'have'} images that are "
            f"trained on ({images} of the test). A score on the test set would be too good: put each patient on one "
            "side."
        )
        yield Finding("patients in test and elsewhere", text)
    num_values = rows[labelled & ~test].groupby("patient")["evaluate"].nunique()
    mixed = sorted(num_values[num_values > 1].index)
    if mixed:
        text = (
            f"{_patients(mixed)} {'has' if len(mixed) == 1 else 'have'} images that are scored and others that "
            "are only trained on: a leak. Give all images of a patient the same evaluate."
        )
        yield Finding("patients scored and not", text)


def _patients(names: list[str]) -> str:
    return f"patient {names[0]}" if len(names) == 1 else f"{len(names):,} patients (first {names[0]})"


def _person(name: str) -> tuple[str, ...]:
    """Return what different spellings of one person's name have in common."""
    text = re.sub(r"(?<=\d)\.0+$", "", plain_letters(name))
    parts = re.findall(r"\d+|[^\W\d_]+", text)
    if not any(part.isdigit() for part in parts):
        parts = sorted(parts)  # Smith, John and John Smith
    else:
        parts = [part for part in parts if part not in _PREFIXES] or parts
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)


def _perhaps_one_person(given: pd.DataFrame) -> Iterator[Finding]:
    names = given.drop_duplicates("patient")
    spellings: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for source, name in zip(names["source"], names["name"]):
        spellings.setdefault((source, _person(name)), set()).add(name)
    alike = [sorted(spellings[key]) for key in sorted(spellings) if len(spellings[key]) > 1 and key[1]]
    if not alike:
        return
    examples = "; ".join(" and ".join(names) for names in alike[:3])
    if len(alike) > 3:
        examples += f"; and {len(alike) - 3:,} more"
    text = (
        f"Patients that may be one person, spelled differently: {examples}. They count as different patients, so a "
        "fold may train on the person it is scored on: spell each patient in one way."
    )
    yield Finding("patients that may be one", text)


def _changed_by_spreadsheet(given: pd.DataFrame) -> Iterator[Finding]:
    bad = given["name"].map({name: any(form.fullmatch(name) for form in _DAMAGED) for name in given["name"].unique()})
    bad = bad.astype(bool)
    if not bad.any():
        return
    examples = ", ".join(given.loc[bad, "name"].drop_duplicates().head(3))
    images = counted(int(bad.sum()), "image", "images")
    text = (
        f"Patients that a spreadsheet seems to have changed: {examples}, {images}. Several patients "
        "may have become one, or a name may have become a date: export them again as text."
    )
    yield Finding("patients changed by a spreadsheet", text)


def _in_two_sources(given: pd.DataFrame) -> Iterator[Finding]:
    sources = given.groupby("name")["source"].unique()
    shared = sources[sources.map(len) > 1]
    if shared.empty:
        return
    where = " and ".join(sorted(shared.iloc[0])[:2])
    names = f"1 name, {shared.index[0]}" if len(shared) == 1 else f"{len(shared):,} names, first {shared.index[0]}"
    text = (
        f"Patients with the same name in two sources count as different persons: {names} in {where}. If they are the "
        "same persons this is a leak: give these sources one name (column source)."
    )
    yield Finding("patients of one name in two sources", text)


def _dominant_patient(given: pd.DataFrame) -> Iterator[Finding]:
    counts = given["patient"].value_counts()
    if len(counts) < 5 or counts.iloc[0] <= len(given) / 2:
        return
    text = (
        f"{counts.iloc[0]:,} of {len(given):,} images with a patient belong to one, {counts.index[0]}: is it a person, "
        "or a word for unknown patients? Leave those empty."
    )
    yield Finding("one patient of most images", text)


def _missing(manifest: pd.DataFrame) -> Iterator[Finding]:
    scored = manifest[manifest["label"].notna() & manifest["evaluate"] & manifest["split"].ne("test")]
    num_unknown = int(scored["patient"].isna().sum())
    if not num_unknown:
        return
    which = f"None of the {len(scored):,} scored images has a"
    if num_unknown < len(scored):
        which = f"{num_unknown:,} of the {len(scored):,} scored images {'has' if num_unknown == 1 else 'have'} no"
    text = (
        f"{which} patient: each counts as a patient of its own, so scores may look better than on the next patient. "
        "Where patients are known, provide them: column patient, `layout=CLASS/PATIENT` or `patient_from`."
    )
    yield Finding("patients unknown", text)
