"""`nonet evaluate RUN --robustness`: corrupt held-out images, score them, and write a table and a figure."""

import logging
from collections.abc import Iterable, Sequence
from os import PathLike

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run, write_text
from nonet.data.manifest import Dataset
from nonet.data.preprocess.corruptions import CORRUPTIONS
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.robustness import Robustness, robustness_tables
from nonet.inference.corrupted_images import list_corruptions
from nonet.inference.corruptions import score_corruptions
from nonet.page.figures import in_house_style, svg_text
from nonet.report.figures import robustness_figure

logger = logging.getLogger("nonet")

LIMIT = 500


def evaluate_robustness(
    run: str | PathLike | Run,
    *,
    dataset: str | PathLike | Dataset | None = None,
    limit: int | None = LIMIT,
    corruptions: Sequence[str] | None = None,
    severities: Iterable[int] | None = None,
    views: bool = True,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> Robustness:
    """Score held-out images corrupted on purpose, by corruption and severity: denoised and not, without and with views.

    Each image is scored by the members that never saw its patient, as out-of-fold logits are. Conditions that are
    finished are kept: stopped or killed, the same call goes on, and a call with other kinds, severities or views adds
    to what there is of the same images.

    Parameters
    ----------
    run : a trained run.
    dataset : the run's dataset, where it does not lie where it did.
    limit : images, drawn as evenly over classes as they allow, over all patients, the same for every variant; None
        or 0 takes all.
    corruptions, severities : keys of `CORRUPTIONS` in nonet.data.preprocess.corruptions, and 1 to 4; all where None.
    views : look at each image in the recipe's views as well, which takes several times as long.
    seed : of the images drawn, their corruption, and the bootstrap.
    num_resamples, confidence : of the bootstrap over patients (over images where patients are unknown).
    accelerator : "auto", "cpu", "gpu".
    num_workers : processes that corrupt and denoise; by default one a core where there are enough images.

    Returns
    -------
    Robustness, with tables of scores and of paired differences. In RUN/evaluation: robustness.csv,
    robustness_differences.csv and figures/robustness.svg; `evaluate` puts them into the report.

    Raises
    ------
    DataError, where a corruption, a severity or a bootstrap option is invalid, or an image is unreadable; RunError,
    where the run is not trained to the end or its dataset is not found.
    """
    bootstrap = Bootstrap(num_resamples, confidence, seed)  # refuses bad values now, and not after an hour of scoring
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
    found = robustness_tables(folder, weights=EnsembleFile.read(run).weights, bootstrap=bootstrap)
    _write(run, found)
    logger.info("Scored %d variants: %s", len(found.scores), run.robustness)
    return found


def _write(run: Run, found: Robustness) -> None:
    """Write the figure and the tables; the scores come last, as they say that all is there."""
    titles = {name: name.replace("_", " ") for name in CORRUPTIONS}
    figure = in_house_style(robustness_figure, found.scores, titles)
    write_text(run.evaluation / "figures" / "robustness.svg", svg_text(figure, "robustness"))
    write_csv(run.robustness_differences, found.differences)
    write_csv(run.robustness, found.scores)
