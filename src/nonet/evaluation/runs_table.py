"""The work of `nonet table`: the images that runs share, scored on the same resamples."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.run import Run, write_text
from nonet.artifacts.storage import prepare_folder
from nonet.errors import DataError
from nonet.evaluation.across_runs import FOLDER
from nonet.evaluation.bootstrap import Bootstrap, GroupConfusions, confusions_by_group
from nonet.evaluation.metrics import SCORES
from nonet.evaluation.oof import ENSEMBLE
from nonet.evaluation.run_data import RunData, read_run
from nonet.evaluation.tables import HEADINGS, align_columns, count_judged, format_interval, row_name
from nonet.page.markdown import Markdown
from nonet.page.markdown import table as markdown_table


@dataclass(frozen=True)
class RunsTable:
    """Several runs on the same images.

    Attributes
    ----------
    table : DataFrame
        One row for each run, view set and architecture, the ensemble last. Columns: run, name, architecture, views,
        each score of `SCORES` with `_low` and `_high`, images, patients (known ones), groups (what the bootstrap drew).
    differences : DataFrame
        One row for each pair of runs and each row that both have. Columns: run, minus, architecture, views (for the
        ensembles also "final": each with its own), and each score's difference with `_low` and `_high`.
    notes : list of str
        Sentences on what the runs do not share.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n\n".join([*self.notes, align_columns(_scores_in_words(self.table)), _differences_in_words(self)])


def compare_runs(runs: list[Run], folder: Path | None, bootstrap: Bootstrap) -> RunsTable:
    """Set runs side by side, and write the tables if there is a folder for them; see `nonet.table`."""
    data = dict(zip(_names(runs), map(read_run, runs)))
    shared, notes = _shared(data)
    made = RunsTable(*_score(data, shared, bootstrap), notes)
    if folder is not None:
        prepare_folder(folder, FOLDER)
        write_csv(folder / "differences.csv", made.differences)
        write_text(folder / "table.md", _markdown(made))
        write_csv(folder / "table.csv", made.table)
    return made


def _names(runs: list[Run]) -> list[str]:
    """Return each run's folder name, or its path where two folders have the same name."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _shared(data: dict[str, RunData]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return, for each run, the places in its out-of-fold table of the shared images, in one order; and notes."""
    (first, reference), *others = data.items()
    ids = pd.Index(reference.oof.image_id)
    places, changed = {first: np.arange(len(ids))}, {}
    for name, run in others:
        places[name], changed[name] = _same_images(reference, run)
    both = np.logical_and.reduce([place >= 0 for place in places.values()])
    if not both.any():
        raise DataError(
            f"{' and '.join(data)} have no evaluated image in common.",
            hint="Runs can be compared that hold out the same images. An image is the same by image_id or by content.",
        )
    shared = {name: place[both] for name, place in places.items()}
    _require_same_labels(data, shared)
    return shared, [*_notes_on_images(data, shared, changed), *_notes_on_runs(data, shared)]


def _same_images(reference: RunData, run: RunData) -> tuple[np.ndarray, int]:
    """Return where each of the reference's images is in `run` (-1: nowhere), and how many differ in content."""
    theirs, ours = (_content(each) for each in (run, reference))
    place = pd.Index(run.oof.image_id).get_indexer(reference.oof.image_id)
    changed = int((theirs[place] != ours)[place >= 0].sum())
    free = np.setdiff1d(np.arange(len(theirs)), place)  # not matched by name
    by_content = pd.Series(free, index=theirs[free])
    by_content = by_content[~by_content.index.duplicated(keep=False)]
    once = ~pd.Series(ours).duplicated(keep=False).to_numpy()
    missing = np.flatnonzero((place < 0) & once)
    place[missing] = pd.Series(ours[missing]).map(by_content).fillna(-1).to_numpy(dtype=np.int64)
    return place, changed


def _content(run: RunData) -> np.ndarray:
    """Return the SHA-256 of each scored image's file, in the order of the out-of-fold table."""
    return run.manifest.set_index("image_id")["sha256"].loc[run.oof.image_id].to_numpy(dtype=object)


def _labels(run: RunData, place: np.ndarray) -> np.ndarray:
    return np.array(run.oof.classes, dtype=object)[run.oof.true[place]]


def _require_same_labels(data: dict[str, RunData], shared: dict[str, np.ndarray]) -> None:
    (first, reference), *others = data.items()
    ours = _labels(reference, shared[first])
    for name, run in others:
        theirs = _labels(run, shared[name])
        other = np.flatnonzero(ours != theirs)
        if len(other):
            image = reference.oof.image_id[shared[first][other[0]]]
            raise DataError(
                f"{len(other):,} of {len(ours):,} shared images have another label in {name} than in {first}, first "
                f'{image}: "{theirs[other[0]]}" and "{ours[other[0]]}".',
                hint="Train both on datasets with the same labels.",
            )


def _notes_on_images(data: dict[str, RunData], shared: dict[str, np.ndarray], changed: dict[str, int]) -> list[str]:
    num = len(next(iter(shared.values())))
    notes = [f"Scored on the {num:,} evaluated images that all {len(data)} runs hold out."]
    for name, run in data.items():
        left_out = len(run.oof.true) - num
        if left_out:
            notes.append(f"{name}: {left_out:,} of its {len(run.oof.true):,} images are not in every run and left out.")
    for name, count in changed.items():
        if count:
            notes.append(f"{name}: {count:,} shared images have the same image_id but other content.")
    return notes


def _notes_on_runs(data: dict[str, RunData], shared: dict[str, np.ndarray]) -> list[str]:
    """Describe what else differs, as a difference in scores may come from that and not from the method."""
    notes, labels = [], set(_labels(*next((run, shared[name]) for name, run in data.items())))
    (first, reference), *others = data.items()
    for name, run in data.items():
        unknown = sorted(labels - set(run.oof.classes))
        if unknown:
            notes.append(f"{name} does not know {', '.join(unknown)}: all images of these classes count as wrong.")
        more = sorted(set(run.oof.classes) - set(reference.oof.classes))
        if more:
            notes.append(f"{name} knows {', '.join(more)} as well, which {first} does not.")
    by = {name: run.recipe.folds.by for name, run in data.items()}
    if len(set(by.values())) > 1:
        each = ", ".join(f"{name} by {how}" for name, how in by.items())
        notes.append(f"Folds differ ({each}): folds by image score better than the next patient will.")
    moved = [name for name, run in data.items() if run.calibrate.prior_strength != 0]
    if moved:
        notes.append(f"{', '.join(moved)}: scored as trained, without the prior correction of predictions.")
    for name, run in others:
        if not _same_partition(reference.oof.group[shared[first]], run.oof.group[shared[name]]):
            notes.append(f"{name} has other patients than {first}; intervals draw those of {first}.")
    return notes


def _same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two names of the same images' patients put the same images together."""
    pairs = pd.DataFrame({"one": one, "other": other}).drop_duplicates()
    return not (pairs["one"].duplicated().any() or pairs["other"].duplicated().any())


def _score(
    data: dict[str, RunData], shared: dict[str, np.ndarray], bootstrap: Bootstrap
) -> tuple[pd.DataFrame, pd.DataFrame]:
    classes = sorted(set().union(*(run.oof.classes for run in data.values())))
    rows: list[tuple[str, str, str, str]] = []
    classes_of_rows: list[np.ndarray] = []
    for name, run in data.items():
        number = np.array([classes.index(code) for code in run.oof.classes])
        for (views, architecture), row in zip(run.oof.rows(), run.oof.predicted):
            rows.append((name, row_name(run.oof, architecture, run.titles), architecture, views))
            chosen = row[shared[name]]
            classes_of_rows.append(np.where(chosen < 0, -1, number[chosen]))
    first = next(iter(data))
    oof, place = data[first].oof, shared[first]
    true = np.array([classes.index(code) for code in _labels(data[first], place)])
    predicted = np.stack(classes_of_rows)
    confusions = confusions_by_group(true, predicted, oof.group[place], len(classes))
    resampled = bootstrap.scores(confusions, SCORES)
    scored = pd.DataFrame(rows, columns=["run", "name", "architecture", "views"])
    for score, function in SCORES.items():
        low, high = bootstrap.interval(resampled[score])
        scored[score] = function(confusions.total())
        scored[f"{score}_low"], scored[f"{score}_high"] = low, high
    scored = scored.assign(**count_judged(predicted, oof.patient[place], oof.group[place]))
    final = {name: run.oof.final_view_set for name, run in data.items()}
    return scored, _differences(scored, final, confusions, predicted >= 0, resampled, bootstrap)


def _differences(
    scored: pd.DataFrame,
    final: dict[str, str],
    confusions: GroupConfusions,
    judged: np.ndarray,
    resampled: dict[str, np.ndarray],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the paired differences of each later run minus each earlier one, of every row that both have.

    Where a dead member leaves a row fewer images (`judged`, (rows, n)) than its counterpart, they are not compared.
    """
    columns = (scored[name] for name in ("run", "architecture", "views"))
    place: dict[tuple[str, str, str], int] = {key: number for number, key in enumerate(zip(*columns))}
    for name, views in final.items():
        place[name, ENSEMBLE, "final"] = place[name, ENSEMBLE, views]
    total, table = confusions.total(), []
    for earlier, later in itertools.combinations(final, 2):
        for run, architecture, views in [key for key in place if key[0] == later]:
            j, i = place.get((earlier, architecture, views)), place[run, architecture, views]
            if j is None or (judged[i] != judged[j]).any():
                continue
            row: dict[str, Any] = {"run": later, "minus": earlier, "architecture": architecture, "views": views}
            for score, function in SCORES.items():
                value = function(total)
                low, high = bootstrap.interval(resampled[score][:, i] - resampled[score][:, j])
                row |= {score: value[i] - value[j], f"{score}_low": float(low), f"{score}_high": float(high)}
            table.append(row)
    return pd.DataFrame(table)


def _scores_in_words(scored: pd.DataFrame) -> list[list[str]]:
    lines = [["run", "", "views", *HEADINGS.values()]]
    for row in scored.to_dict("records"):
        cells = [format_interval(row[s], row[f"{s}_low"], row[f"{s}_high"]) for s in HEADINGS]
        lines.append([row["run"], row["name"], row["views"], *cells])
    return lines


def _differences_in_words(made: RunsTable) -> str:
    final = made.differences[made.differences["views"] == "final"]
    lines = [["ensembles, each with its views", *HEADINGS.values()]]
    for row in final.to_dict("records"):
        lines.append([f"{row['run']} − {row['minus']}", *(_signed(row, score) for score in HEADINGS)])
    return align_columns(lines)


def _signed(row: dict, score: str) -> str:
    """Return "+0.012 [−0.003, +0.020]"."""
    values = [row[score], row[f"{score}_low"], row[f"{score}_high"]]
    value, low, high = (f"{v:+.3f}".replace("-", "−") if not np.isnan(v) else "–" for v in values)
    return f"{value} [–]" if low == "–" else f"{value} [{low}, {high}]"


def _markdown(made: RunsTable) -> str:
    """Return both tables and the notes as a page of Markdown."""
    header, *rows = _scores_in_words(made.table)
    parts = [markdown_table(header, [[*r[:3], *map(Markdown, r[3:])] for r in rows], align="lll" + "r" * len(HEADINGS))]
    final = made.differences[made.differences["views"] == "final"].to_dict("records")
    cells = [
        [f"{row['run']} − {row['minus']}", *(Markdown(_signed(row, score)) for score in HEADINGS)] for row in final
    ]
    parts.append(markdown_table(["difference", *HEADINGS.values()], cells, align="l" + "r" * len(HEADINGS)))
    return "\n\n".join([*made.notes, *parts]) + "\n"
