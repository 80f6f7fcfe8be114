"""`issues`: list a run's probable label errors, and write the tables and the figure."""

import logging
from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import read_csv, write_csv
from nonet.artifacts.run import Run, set_aside, write_text
from nonet.errors import RunError
from nonet.evaluation.bootstrap import confusions_by_group
from nonet.evaluation.issues import DECISION_COLUMNS, Issues, ensemble_proba, find_issues, issues_text
from nonet.evaluation.majority_baseline import measure_majority_baseline
from nonet.evaluation.run_data import read_run
from nonet.page.figures import svg_text, with_page_style
from nonet.report import figures

logger = logging.getLogger("nonet")

FIGURE = "label_issues"


def issues(
    run: str | Path | Run, *, filter_by: str = "prune_by_noise_rate", rank_by: str = "normalized_margin"
) -> pd.DataFrame:
    """Find labels of a run's evaluated images that are probably wrong, and write them, worst first.

    Each image is judged by the ensemble's out-of-fold probabilities with the final views, so by members that never saw
    it; with prior correction, by corrected ones. An issue is a suspicion: networks err as well, mostly where they are
    weakest. A person decides.

    Parameters
    ----------
    run : str, path or Run
        A trained run.
    filter_by : str
        Which labels count as issues: "both" and "confident_learning" are stricter; "predicted_neq_given" takes every
        image whose predicted class is not its label. See `nonet.find_label_issues`.
    rank_by : str
        "normalized_margin" compares the given class with the suggested one; "self_confidence" uses the given one alone.

    Returns
    -------
    DataFrame
        One row per issue. Columns: rank (from 1), image_id, path (within its source), source, patient, given and
        suggested class, self_confidence (probability of the given class), suggested_confidence, normalized_margin, and
        the image_ids given_neighbour_1 to 3 and suggested_neighbour_1 to 3: held-out images of these classes that look
        most like it and are not issues themselves (missing if the run has no features or the class too few images).

    Raises
    ------
    RunError
        As `nonet.evaluate`, and if the networks are no better than chance.
    DataError
        If a choice is unknown, or the run has one class only.

    Notes
    -----
    RUN/evaluation then contains issues.csv, issues_by_source.csv, issues_by_patient.csv and figures/label_issues.svg.
    `nonet.evaluate` writes the same files with the default choices.
    """
    run = Run(run)
    data = read_run(run)
    predicted = ensemble_proba(data).argmax(axis=1)
    baseline = measure_majority_baseline(
        confusions_by_group(data.oof.true, predicted, data.oof.group, len(data.oof.classes)), data.oof.classes
    )
    if baseline.nothing_learned:
        raise RunError(
            f"The networks of {run} cannot tell which labels are wrong. {baseline.words()}",
            hint="Train longer, or with other settings, to another `out`.",
        )
    result = find_issues(run, data, filter_by=filter_by, rank_by=rank_by)
    keep_decisions(run.issues)
    for name, table in issue_tables(result).items():
        write_csv(run.evaluation / f"{name}.csv", table)
    write_text(run.evaluation / "figures" / f"{FIGURE}.svg", draw_issues(result))
    logger.info("%s", issues_text(result))
    return result.table


def keep_decisions(file: Path) -> None:
    """Rename an issues.csv into which somebody wrote decisions, before a new one takes its place.

    Parameters
    ----------
    file : Path
    """
    if not file.is_file():
        return
    try:
        table = read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError):  # edited so that it is no table any more
        decided = True
    else:
        whole = set(DECISION_COLUMNS) <= set(table.columns)
        decided = not whole or any(str(text).strip() for name in DECISION_COLUMNS for text in table[name])
    if decided:
        aside = set_aside(file, "decided")
        logger.warning(f'{file} was edited. It is kept as {aside.name}, for "nonet data build --decisions".')


def issue_tables(result: Issues) -> dict[str, pd.DataFrame]:
    """Return {file stem: table}."""
    return {"issues": result.table, "issues_by_source": result.by_source, "issues_by_patient": result.by_patient}


def draw_issues(result: Issues) -> str:
    """Return the figure as SVG text."""
    figure = with_page_style(figures.issues_figure, result.pairs, result.confusion)
    return svg_text(figure, FIGURE.replace("_", "-"))
