"""`issues`: list a run's probable label errors, and write the tables and the figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import Run
from nonet.evaluation.opening import require_evaluable

if TYPE_CHECKING:
    import pandas as pd


def issues(
    run: str | Path | Run, *, filter_by: str = "prune_by_noise_rate", rank_by: str = "normalized_margin"
) -> "pd.DataFrame":
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
    require_evaluable(run)
    from nonet.report.issue_files import write_issues  # only now: what it imports takes seconds

    return write_issues(run, filter_by=filter_by, rank_by=rank_by)
