"""Patients as sources write them: which are not known, which may be one person, and what of them leaks."""

import re
import unicodedata

import pandas as pd

from nonet.data.sources.vocabulary import is_not_known, plain_letters
from nonet.errors import DataError

_PREFIXES = {"p", "pat", "pt", "patient", "subject", "subj", "case", "id", "no", "nr", "number", "num"}
_MONTH = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mrz|mai|okt|dez|fév|avr|juin|juil|août|déc|ene|abr|ago|dic"
)
#: What spreadsheets make of identifiers: 2.02E+11, 123456789012345000 (they keep 15 digits), 3-Jan, 2024-01-03.
_DAMAGED = (
    re.compile(r"[+-]?\d+([.,]\d+)?e\+\d+", re.IGNORECASE),
    re.compile(r"\d{15}0+"),
    re.compile(rf"\d{{1,2}}[-. ]{{1,2}}({_MONTH})\.?|({_MONTH})\.?[-. ]\d{{1,2}}", re.IGNORECASE),
    re.compile(r"((19|20)\d\d-\d\d-\d\d|\d{1,2}\.\d{1,2}\.(19|20)\d\d|\d{1,2}/\d{1,2}/(\d{4}|\d\d))([ T]00:00(:00)?)?"),
)


def tidy_patients(table: pd.DataFrame, notes: list[str]) -> None:
    """Make patients unknown whose name says so, and one whose names look the same; in place, with notes.

    Names that differ by what cannot be seen only (blanks around or doubled, letters of no width, composed or
    decomposed accents) are surely one. Others that may be one person stay apart: `patient_findings` tells them.
    """
    known = table["patient"].notna() & ~table["patient_is_standin"]
    if not known.any():
        return
    given = table.loc[known, "patient"].astype(str)
    plain = given.map({name: _seen(name) for name in given.unique()})
    num_joined = int(given.nunique() - plain.nunique())
    unknown = plain.map({name: is_not_known(name, numbers=True) for name in plain.unique()}).astype(bool)
    table.loc[known, "patient"] = plain.mask(unknown, None)
    for source, words in plain[unknown].groupby(table["source"]):
        told = ", ".join(f"{word or 'blank'} {count:,}" for word, count in words.value_counts().items())
        notes.append(f"{source}: patients read as unknown: {told} (images of each).")
    if num_joined:
        was = "1 name of a patient differs" if num_joined == 1 else f"{num_joined:,} names of patients differ"
        notes.append(f"{was} from another only by what cannot be seen; each was made one with it.")


def _seen(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    name = "".join(" " if unicodedata.category(c) == "Zs" else c for c in name if unicodedata.category(c) != "Cf")
    return re.sub(r"\s+", " ", name).strip()


def patients_from_paths(table: pd.DataFrame, pattern: str, sources: set[str], notes: list[str]) -> None:
    """Read patients that are not known from the images' paths; in place, with a note.

    Parameters
    ----------
    table : of the sources.
    pattern : regular expression, searched in the path; its group "patient", else its first, else all of it is the
        patient.
    sources : names of those that it is for.
    notes : get how many images it fits.

    Raises
    ------
    DataError where it is not a regular expression, or fits no path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f'`patient_from` "{pattern}" is not a regular expression: {error}.',
            hint=r'Like "(P\d+)_", with the patient in parentheses.',
        ) from error
    group = "patient" if "patient" in compiled.groupindex else min(1, compiled.groups)
    here = table["source"].isin(sources) & table["patient"].isna()
    paths = table.loc[here, "path"]
    found = paths.map(lambda path: (match := compiled.search(path)) and match.group(group)).astype(object)
    found = found.where(found.notna() & found.ne(""), None)
    if here.any() and found.isna().all():
        raise DataError(f'`patient_from` "{pattern}" fits no path, not even {paths.iloc[0]}.')
    table.loc[here, "patient"] = found
    without = int(found.isna().sum())
    rest = f"; it does not fit {without:,}, first {paths[found.isna()].iloc[0]}" if without else ""
    notes.append(
        f"Patients read from paths: {found.nunique():,} of {len(found) - without:,} images, "
        f"first {found.dropna().iloc[0]} of {paths[found.notna()].iloc[0]}{rest}."
    )


def patient_findings(manifest: pd.DataFrame) -> list[tuple[str, str]]:
    """Return what of the patients of a manifest would spoil scores: (kind, sentence), the gravest first."""
    rows = manifest[manifest["patient"].notna()]
    rows = rows.assign(name=[_name(patient, source) for patient, source in zip(rows["patient"], rows["source"])])
    given = rows[~rows["patient_is_standin"]]
    if given.empty:
        return [*_on_two_sides(rows), *_missing(manifest)]
    return [
        *_on_two_sides(rows),
        *_one_person(given),
        *_damaged(given),
        *_in_two_sources(given),
        *_one_for_most(given),
        *_missing(manifest),
    ]


def _name(patient: str, source: str) -> str:
    return patient.removeprefix(f"{source}/")


def _on_two_sides(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Patients of the test who are trained on, and patients of whom some images are scored and some are not."""
    findings = []
    test = rows["split"].eq("test")
    labelled = rows["label"].notna()
    trained = set(rows.loc[~test & labelled, "patient"])
    both = sorted(set(rows.loc[test, "patient"]) & trained)
    if both:
        num_images = int((test & rows["patient"].isin(both)).sum())
        findings.append(
            (
                "patients in test and elsewhere",
                f"A leak: {_patients(both)} of split test also {'has' if len(both) == 1 else 'have'} images that are "
                f"trained on ({_images(num_images)} of the test). A score on the test would be too good: put each "
                "patient on one side.",
            )
        )
    scored = labelled & ~test
    mixed = rows[scored].groupby("patient")["evaluate"].nunique()
    mixed = sorted(mixed[mixed > 1].index)
    if mixed:
        findings.append(
            (
                "patients scored and not",
                f"{_patients(mixed)} {'has' if len(mixed) == 1 else 'have'} images that are scored and others that "
                "are only trained on: a leak. Give all images of a patient the same evaluate.",
            )
        )
    return findings


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _patients(names: list[str]) -> str:
    return f"patient {names[0]}" if len(names) == 1 else f"{len(names):,} patients (first {names[0]})"


def _person(name: str) -> tuple[str, ...]:
    """Return what two names of one person would have in common."""
    text = re.sub(r"(?<=\d)\.0+$", "", plain_letters(name))
    parts = re.findall(r"\d+|[^\W\d_]+", text)
    if not any(part.isdigit() for part in parts):
        parts = sorted(parts)  # Smith, John and John Smith
    else:
        parts = [part for part in parts if part not in _PREFIXES] or parts
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)


def _one_person(given: pd.DataFrame) -> list[tuple[str, str]]:
    names = given.drop_duplicates("patient")
    persons = names.groupby(["source", names["name"].map(_person)])["name"].unique()
    alike = [sorted(found) for (_, person), found in persons.items() if len(found) > 1 and person]
    if not alike:
        return []
    told = "; ".join(" and ".join(found) for found in alike[:3])
    if len(alike) > 3:
        told += f"; and {len(alike) - 3:,} more"
    return [
        (
            "patients that may be one",
            f"Patients that may be one person, written in several ways: {told}. They count as "
            "different, so a fold may train on the person it is scored on: give each one spelling.",
        )
    ]


def _damaged(given: pd.DataFrame) -> list[tuple[str, str]]:
    bad = given["name"].map({name: any(form.fullmatch(name) for form in _DAMAGED) for name in given["name"].unique()})
    bad = bad.astype(bool)
    if not bad.any():
        return []
    told = ", ".join(given.loc[bad, "name"].drop_duplicates().head(3))
    return [
        (
            "patients changed by a spreadsheet",
            f"Patients that a spreadsheet seems to have changed: {told}, {_images(int(bad.sum()))}. Several patients "
            "may have become one, or one name a date: export them again as text.",
        )
    ]


def _in_two_sources(given: pd.DataFrame) -> list[tuple[str, str]]:
    sources = given.groupby("name")["source"].unique()
    shared = sources[sources.map(len) > 1]
    if shared.empty:
        return []
    where = " and ".join(sorted(shared.iloc[0])[:2])
    names = f"1 name, {shared.index[0]}" if len(shared) == 1 else f"{len(shared):,} names, first {shared.index[0]}"
    return [
        (
            "patients of one name in two sources",
            f"Patients of one name in two sources count as different persons: {names} in {where}. If they are the "
            "same persons it is a leak: give these sources one name (column source).",
        )
    ]


def _one_for_most(given: pd.DataFrame) -> list[tuple[str, str]]:
    counts = given["patient"].value_counts()
    if len(counts) < 5 or counts.iloc[0] <= len(given) / 2:
        return []
    return [
        (
            "one patient of most images",
            f"{counts.iloc[0]:,} of {len(given):,} images with a patient are of one, {counts.index[0]}: is it a "
            "person, or a word for all whose patient is not known? Leave these empty.",
        )
    ]


def _missing(manifest: pd.DataFrame) -> list[tuple[str, str]]:
    scored = manifest[manifest["label"].notna() & manifest["evaluate"] & manifest["split"].ne("test")]
    num_unknown = int(scored["patient"].isna().sum())
    if not num_unknown:
        return []
    which = f"None of {len(scored):,} images that are scored has a"
    if num_unknown < len(scored):
        which = f"{num_unknown:,} of {len(scored):,} images that are scored {'has' if num_unknown == 1 else 'have'} no"
    return [
        (
            "patients unknown",
            f"{which} patient: each counts as one of its own, and scores may look better than on the next patient. "
            "Where patients are known, give them: column patient, `layout=CLASS/PATIENT` or `patient_from`.",
        )
    ]
