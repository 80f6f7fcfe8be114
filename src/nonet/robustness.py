"""`evaluate_robustness`: corrupt held-out images, score them, and write tables and a figure."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.data.opening import require_dataset
from nonet.data.preprocess.corruptions import list_corruptions
from nonet.evaluation.interval_options import require_interval_options
from nonet.evaluation.opening import require_evaluable
from nonet.models.accelerators import require_devices

if TYPE_CHECKING:
    from nonet.data.manifest import Dataset
    from nonet.evaluation.robustness import Robustness

logger = logging.getLogger("nonet")


def evaluate_robustness(
    run: str | Path | Run,
    *,
    dataset: "str | Path | Dataset | None" = None,
    limit: int | None = 500,
    corruptions: Sequence[str] | None = None,
    severities: Iterable[int] | None = None,
    views: bool = True,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> "Robustness":
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
    run = Run(run)
    require_interval_options(num_resamples, confidence)
    require_devices(accelerator)
    listed = list_corruptions(corruptions, severities)
    if isinstance(dataset, (str, Path)):
        require_dataset(Path(dataset).expanduser())
    require_evaluable(run)
    from nonet.evaluation.bootstrap import Bootstrap  # only now: what these import takes seconds
    from nonet.evaluation.robustness import robustness_tables
    from nonet.inference.corruptions import score_corruptions
    from nonet.report.robustness_files import write_robustness

    folder = score_corruptions(
        run,
        listed,
        dataset=dataset,
        limit=limit,
        views=views,
        seed=seed,
        accelerator=accelerator,
        num_workers=num_workers,
    )
    bootstrap = Bootstrap(num_resamples, confidence, seed)
    result = robustness_tables(folder, weights=EnsembleFile.read(run).weights, bootstrap=bootstrap)
    write_robustness(run, result)
    logger.info("Scored %d variants: %s", len(result.scores), run.robustness)
    return result
