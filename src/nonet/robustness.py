"""`evaluate_robustness`: corrupt held-out images, score them, and write tables and a figure."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run, write_text
from nonet.data.manifest import Dataset
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.robustness import Robustness, robustness_tables
from nonet.inference.corrupted_images import list_corruptions
from nonet.inference.corruptions import score_corruptions
from nonet.page.figures import svg_text, with_page_style
from nonet.report.figures import robustness_figure

logger = logging.getLogger("nonet")


def evaluate_robustness(
    run: str | Path | Run,
    *,
    dataset: str | Path | Dataset | None = None,
    limit: int | None = 500,
    corruptions: Sequence[str] | None = None,
    severities: Iterable[int] | None = None,
    views: bool = True,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> Robustness:
    """Score held-out images that are corrupted on purpose: by corruption and severity, denoised and not.

    Each image is scored by the members that never saw its patient, as out-of-fold logits are. Finished variants are
    stored: if interrupted, the same call resumes, and a call with other corruptions, severities or views adds to them.

    Parameters
    ----------
    run : str, path or Run
        A trained run.
    dataset : path or Dataset, optional
        The run's dataset, if it was moved since training.
    limit : int, optional
        Number of images to corrupt, drawn evenly over classes and patients, the same for every variant. 0 takes all.
    corruptions : sequence of str, optional
        Corruptions to test. Default: noise, blur, illumination, shot_noise, motion_blur, colour, jpeg.
    severities : iterable of int, optional
        Severities to test, 1 to 4. Default: all.
    views : bool
        Also score with the recipe's views (test-time augmentation), which takes several times as long.
    seed : int
        Random seed of the images drawn, their corruption, and the bootstrap.
    num_resamples : int
        Number of bootstrap resamples, drawn over patients (over images if patients are unknown).
    confidence : float in (0, 1)
        Confidence level of the intervals.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.
    num_workers : int, optional
        Number of processes that corrupt and denoise. Default: one per core if there are enough images.

    Returns
    -------
    Robustness
        Tables of scores and of paired differences.

    Raises
    ------
    DataError
        If a corruption, a severity or a bootstrap option is invalid, or an image is unreadable.
    RunError
        If the run is not fully trained or its dataset is not found.

    Notes
    -----
    RUN/evaluation then contains robustness.csv, robustness_differences.csv and figures/robustness.svg, which
    `nonet.evaluate` includes in the report.
    """
    bootstrap = Bootstrap(num_resamples, confidence, seed)  # raises for bad values now, not after an hour of scoring
    run = Run(run)
    folder = score_corruptions(
        run,
        list_corruptions(corruptions, severities),
        dataset=dataset,
        limit=limit,
        views=views,
        seed=seed,
        accelerator=accelerator,
        num_workers=num_workers,
    )
    result = robustness_tables(folder, weights=EnsembleFile.read(run).weights, bootstrap=bootstrap)
    _write(run, result)
    logger.info("Scored %d variants: %s", len(result.scores), run.robustness)
    return result


def _write(run: Run, result: Robustness) -> None:
    """Write the figure and the tables; the scores come last, as a sign that all files are there."""
    figure = with_page_style(robustness_figure, result.scores)
    write_text(run.evaluation / "figures" / "robustness.svg", svg_text(figure, "robustness"))
    write_csv(run.robustness_differences, result.differences)
    write_csv(run.robustness, result.scores)
