"""The work of `issues`: finding them, and writing the tables and the figure."""

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


def write_issues(run: Run, *, filter_by: str, rank_by: str) -> pd.DataFrame:
    """Find a run's issues, and write the tables and the figure; see `nonet.issues`."""
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
