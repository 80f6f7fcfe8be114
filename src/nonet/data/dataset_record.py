"""What a run records about how its dataset was made, as the dataset's folder may no longer exist later."""

import json
from collections import Counter

import pandas as pd

from nonet.artifacts.integrity import reading
from nonet.artifacts.run import FORMAT_VERSION
from nonet.data.manifest import Dataset
from nonet.errors import DataError


def summarise_dataset(dataset: Dataset) -> dict:
    """Summarise where a dataset comes from, what its build left out, what was decided, and what the checks found.

    Counts, kinds and sentences only: no path of this machine, and no row per image.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    dict
        Ready for JSON, with the keys

        - format_version;
        - created: when the dataset was built;
        - kinds: source → key in SOURCES;
        - notes: sentences of the build;
        - excluded: one dict (source, reason, images) per reason;
        - decisions: None, or a dict (num_images, sha256);
        - checks: None where there were none, else a dict of findings and notes (sentences) and near_duplicates (pairs
          per kind).

    Raises
    ------
    DataError
        When checks.json is damaged.
    """
    description = dataset.description
    decisions = description.get("decisions")
    return {
        "format_version": FORMAT_VERSION,
        "created": description.get("created"),
        "kinds": description["kinds"],
        "notes": list(description["notes"]),
        "excluded": _count_excluded(dataset.excluded),
        "decisions": decisions and {key: decisions[key] for key in ("num_images", "sha256")},
        "checks": _summarise_checks(dataset),
    }


def _count_excluded(excluded: pd.DataFrame) -> list[dict]:
    """Count what was left out by source and kind of reason, which are its words up to a colon."""
    if excluded.empty:
        return []
    reason = excluded["reason"].astype(str).str.split(":").str[0]
    counts = excluded.assign(reason=reason).groupby(["source", "reason"]).size().sort_values(ascending=False)
    table = counts.rename("images").reset_index()
    return [
        {"source": source, "reason": why, "images": int(num)}
        for source, why, num in zip(table["source"], table["reason"], table["images"])
    ]


def _summarise_checks(dataset: Dataset) -> dict | None:
    path = dataset.folder / "checks.json"
    if not path.is_file():
        return None
    with reading(path, hint=f'Run "nonet data check {dataset.folder}".', kind=DataError):
        checks = json.loads(path.read_text(encoding="utf-8"))
        findings = [str(finding["text"]) for finding in checks["findings"]]
        notes = [str(note["text"]) for note in checks.get("notes", [])]  # datasets of older versions have none
        pairs = Counter(str(pair["kind"]) for pair in checks["pairs"])
    return {"findings": findings, "notes": notes, "near_duplicates": dict(pairs)}
