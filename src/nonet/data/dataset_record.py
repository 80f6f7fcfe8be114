"""What a run keeps of the making of its dataset, whose folder may be gone when someone asks."""

import json
from collections import Counter

import pandas as pd

from nonet.artifacts.integrity import reading
from nonet.artifacts.run import FORMAT_VERSION
from nonet.data.manifest import Dataset
from nonet.errors import DataError


def record_of(dataset: Dataset) -> dict:
    """Summarise where a dataset is from, what its build left out, what was decided and what the checks found.

    Counts, kinds and sentences: no path of the machine, and no row for each image.

    Returns
    -------
    dict, ready for JSON: format_version; created, when it was built; kinds, source → name in SOURCES (empty for a
    dataset of an earlier nonet); notes, sentences of the build; excluded, one dict (source, reason, images) a reason;
    decisions, None or {"num_images", "sha256"}; checks, None where none were made, else {"findings", sentences;
    "near_duplicates", pairs of each kind}.

    Raises
    ------
    DataError where checks.json is damaged.
    """
    description = dataset.description
    decisions = description.get("decisions")
    return {
        "format_version": FORMAT_VERSION,
        "created": description.get("created"),
        "kinds": description.get("kinds", {}),
        "notes": list(description["notes"]),
        "excluded": _counted(dataset.excluded),
        "decisions": decisions and {key: decisions[key] for key in ("num_images", "sha256")},
        "checks": _checks(dataset),
    }


def _counted(excluded: pd.DataFrame) -> list[dict]:
    """Count what was left out by source and by the reason's words up to a colon, which are its kind."""
    if excluded.empty:
        return []
    reason = excluded["reason"].astype(str).str.split(":").str[0]
    counts = excluded.assign(reason=reason).groupby(["source", "reason"]).size().sort_values(ascending=False)
    return [{"source": source, "reason": why, "images": int(num)} for (source, why), num in counts.items()]


def _checks(dataset: Dataset) -> dict | None:
    path = dataset.folder / "checks.json"
    if not path.is_file():
        return None
    with reading(path, hint=f'Run "nonet data check {dataset.folder}".', kind=DataError):
        checks = json.loads(path.read_text(encoding="utf-8"))
        findings = [str(finding["text"]) for finding in checks["findings"]]
        pairs = Counter(str(pair["kind"]) for pair in checks["pairs"])
    return {"findings": findings, "near_duplicates": dict(pairs)}
