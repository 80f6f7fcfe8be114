"""The verbs that compare: runs with each other, predictions with labels."""

from pathlib import Path

import nonet
from nonet.cli.ending import say
from nonet.cli.words import RunFolder


def table(
    *runs: RunFolder, out: Path | None = None, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> None:
    """Set runs side by side: Table 1 on the images that all of them hold out, with paired differences over patients.

    Parameters
    ----------
    runs
        Two or more trained runs; differences are those of later ones minus earlier ones.
    out
        Folder for table.csv, differences.csv and table.md.
    resamples
        Number of bootstrap resamples, drawn over patients.
    confidence
        Confidence level of the intervals.
    seed
        Random seed of the bootstrap.
    """
    say(nonet.table(list(runs), out=out, num_resamples=resamples, confidence=confidence, seed=seed))


def score(
    predictions: Path,
    labels: Path,
    *,
    out: Path | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> None:
    """Score predictions against a table of labels: macro-F1 and the challenge's other scores, accuracy, each class.

    Parameters
    ----------
    predictions
        predictions.csv or submission.csv, the folder of "nonet predict", or a CSV of images and classes.
    labels
        CSV with image (or path, ID, file) and label; with patient, intervals are over patients. Images are matched by
        the file's name, with or without its ending, and by folders where a name comes twice. Or a dataset's folder.
    out
        Folder for scores.csv, per_class.csv and confusion.csv.
    resamples
        Random seed of the bootstrap.
    confidence
        Confidence level of the intervals.
    seed
        Random seed of the bootstrap.
    """
    options = {"num_resamples": resamples, "confidence": confidence, "seed": seed}
    say(nonet.score(predictions, labels, out=out, **options))
