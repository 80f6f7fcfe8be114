"""`nonet evaluate`, `nonet issues`, `nonet table` and `nonet score`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import nonet
from nonet.cli.options import Accelerator, DatasetFolder, Names, RunFolder, documented_by, option_name, split_commas
from nonet.cli.output import in_columns, say
from nonet.errors import NonetError


@documented_by("evaluate_robustness")
@dataclass(frozen=True)
class RobustnessOptions:
    """Options of `nonet evaluate --robustness`."""

    dataset: DatasetFolder | None = None
    limit: int = 500
    corruptions: Names | None = None
    severities: Annotated[list[int] | None, Parameter(negative=(), consume_multiple=True)] = None
    views: bool = True
    accelerator: Accelerator = "auto"
    num_workers: int | None = None

    def changed(self) -> list[str]:
        """Return the options that differ from their defaults, as they are written on the command line."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return ["--no-views" if name == "views" else f"--{option_name(name)}" for name in names]


@documented_by("evaluate")
def evaluate(
    run: RunFolder,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    robustness: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[RobustnessOptions, Parameter(name="*")] = RobustnessOptions(),
) -> None:
    """
    Parameters
    ----------
    seed : int
        Random seed of the bootstrap, and of the images drawn and their corruption.
    robustness : bool
        Also score held-out images that are corrupted on purpose, by corruption and severity, denoised and not. If
        interrupted, run the same command again to resume; corruptions tested earlier are kept. The options below apply
        to it only.
    """
    if (changed := options.changed()) and not robustness:
        raise NonetError(f"{changed[0]} applies to --robustness only.", hint="Add --robustness.")
    if robustness:
        _evaluate_robustness(run, options, num_resamples, confidence, seed)
    table = nonet.evaluate(run, num_resamples=num_resamples, confidence=confidence, seed=seed)
    from nonet.evaluation.tables import format_table  # after the checks, as it imports pandas

    say(format_table(table))
    say(f"Report: {Path(run) / 'evaluation' / 'report.html'}; in the same folder: model_card.md and datasheet.md")


def _evaluate_robustness(
    run: Path, options: RobustnessOptions, num_resamples: int, confidence: float, seed: int
) -> None:
    result = nonet.evaluate_robustness(
        run,
        dataset=options.dataset,
        limit=options.limit,
        corruptions=split_commas(options.corruptions),
        severities=options.severities,
        views=options.views,
        accelerator=options.accelerator,
        num_workers=options.num_workers,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )
    from nonet.evaluation.robustness import format_robustness

    say(f"Macro-F1 on corrupted images ({result.scores['images'].iloc[0]:,} images, drawn by class):")
    say(format_robustness(result))
    say()


@documented_by("issues")
def issues(
    run: RunFolder,
    *,
    filter_by: Literal[
        "prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"
    ] = "prune_by_noise_rate",
    rank_by: Literal["normalized_margin", "self_confidence"] = "normalized_margin",
) -> None:
    table = nonet.issues(run, filter_by=filter_by, rank_by=rank_by)
    shown = ["rank", "image_id", "given", "suggested", "self_confidence", "normalized_margin"]
    if len(table):
        say(in_columns(table[shown].head(10).round(3).to_dict("records")))
    say(f"All of them: {nonet.Run(run).issues}")


@documented_by("table")
def table(
    *runs: RunFolder, out: Path | None = None, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> None:
    say(nonet.table(list(runs), out=out, num_resamples=num_resamples, confidence=confidence, seed=seed))


@documented_by("score")
def score(
    predictions: Path,
    labels: Path,
    *,
    out: Path | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> None:
    """
    Parameters
    ----------
    predictions : path
        predictions.csv or submission.csv, the folder of "nonet predict", or a CSV of images and classes.
    labels : path
        CSV with image (or path, ID, file) and label; with patient, intervals are over patients. Images are matched by
        file name, with or without its ending, and by folders where a name occurs twice. Or a dataset's folder.
    """
    say(nonet.score(predictions, labels, out=out, num_resamples=num_resamples, confidence=confidence, seed=seed))
