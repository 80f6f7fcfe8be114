"""`evaluate`: from a run's out-of-fold logits to Table 1, figures and a report."""

from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import Run
from nonet.evaluation.interval_options import require_interval_options
from nonet.evaluation.opening import require_evaluable

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    run: str | Path | Run,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> "pd.DataFrame":
    """Score a run on its held-out images and write tables, figures and a report.

    Only images that the manifest marks "evaluate" are scored, each by the members that never saw it.

    Parameters
    ----------
    run : str, path or Run
        A trained run.
    num_resamples : int
        Number of bootstrap resamples, drawn over patients (over images if patients are unknown).
    confidence : float in (0, 1)
        Confidence level of the intervals.
    seed : int
        Random seed of the bootstrap.

    Returns
    -------
    DataFrame
        Table 1, as `nonet.evaluation.tables.table_1` describes it, with the ensemble weighted by ensemble.json. With
        prior correction it has a row "ensemble, calibrated", which everything else then describes.

    Raises
    ------
    RunError
        If out-of-fold logits are missing, incomplete or not finite.

    Notes
    -----
    RUN/evaluation then contains table.csv, per_class.csv, differences.csv, confusion.csv (counts of the ensemble, rows
    true), mistakes.csv (by group of models and lineage), stage_errors.csv (how far granulocyte stages are called too
    early or too late, if the run has at least two), expanded_confusion.csv and expanded_mistakes.csv (confusion and
    mistakes of all held-out images, if external ones were held out), calibration.csv, coverage.csv and rejection.csv
    (if there are enough patients), unknown_types.csv (if some of these are held out), the files of `nonet.issues`,
    ``figures/*.svg``, report.html, model_card.md and datasheet.md. Report and card include the results of
    `nonet.evaluate_robustness`.
    """
    run = Run(run)
    require_interval_options(num_resamples, confidence)
    require_evaluable(run)
    from nonet.evaluation.bootstrap import Bootstrap  # only now: what these import takes seconds
    from nonet.report.evaluation_files import write_evaluation

    return write_evaluation(run, Bootstrap(num_resamples, confidence, seed))
