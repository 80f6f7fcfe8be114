"""The command line: each verb calls the public function of the same name. The only package that prints."""

import logging
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from tqdm.contrib.logging import logging_redirect_tqdm

import nonet
from nonet.artifacts.run import Run
from nonet.cli import compare
from nonet.cli.common import add_common_options, is_quiet
from nonet.cli.data import verbs as data_verbs
from nonet.cli.ending import exit_status_of, say
from nonet.cli.words import Accelerator, DatasetFolder, Names, RunFolder, in_columns, split_commas
from nonet.data.opening import require_dataset
from nonet.errors import NonetError, did_you_mean, printable

logger = logging.getLogger("nonet")

app = App(
    name="nonet",
    help="White blood cell classification with nine small networks. Research use only.",
    version=nonet.__version__,
)
recipes = App(name="recipes", help="List the recipes, or show one with every setting.")
app.command(data_verbs)
app.command(recipes)
app.command(compare.table)
app.command(compare.score)
add_common_options(app)
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # `main` says how to go on

Settings = Annotated[list[str], Parameter(name="--set", negative=(), consume_multiple=False)]


@app.command
def demo(out: Path = Path("demo"), *, seed: int = 0) -> None:
    """Run the whole workflow on drawn cells, without a download: draw, train nine networks, evaluate, predict, report.

    Parameters
    ----------
    out
        Folder for the drawn cells, the run and the report. If interrupted, run the same command again to resume.
    seed
        Random seed of the drawing and the training.
    """
    done = nonet.demo(out, seed=seed, say=(lambda text: None) if is_quiet() else say)
    if is_quiet():
        say(f"Report: {done.report}")


@app.command
def train(
    recipe: str,
    dataset: Path,
    *,
    out: Path,
    set_: Settings | None = None,
    accelerator: Accelerator = "auto",
    devices: int = 1,
) -> None:
    """Train every member of a recipe. If interrupted, run the same command again to resume.

    Parameters
    ----------
    recipe
        Name of a built-in recipe ("nonet recipes" lists them), or a TOML file of your own.
    dataset
        Folder made by "nonet data build". If it contains folds.csv, those folds are used.
    out
        Folder for the run.
    set_
        Change a setting, as in --set train.epochs=5. May be repeated.
    accelerator
        What to compute on: the best there is (auto), cpu, or a GPU (gpu; cuda and mps name its kind).
    devices
        Number of processes that share each batch.
    """
    loaded = nonet.load_recipe(recipe, set_)  # told now, and the dataset next: the rest takes seconds to import
    require_dataset(dataset.expanduser())
    run = nonet.train(loaded, dataset, out=out, accelerator=accelerator, devices=devices)
    say(f'{run} is trained. Next: nonet evaluate "{run}"')


@dataclass(frozen=True)
class RobustnessOptions:
    """Options of `evaluate --robustness`.

    Parameters
    ----------
    dataset
        The run's dataset, if it was moved since training.
    limit
        Number of images to corrupt, drawn evenly over classes and patients; 0 takes all.
    corruptions
        Corruptions. Default: all of noise, blur, illumination, shot_noise, motion_blur, colour, jpeg.
    severities
        Severities, 1 to 4. Default: all.
    views
        Also score with the recipe's views (test-time augmentation), which takes several times as long.
    accelerator
        What to compute on: the best there is (auto), cpu, or a GPU (gpu; cuda and mps name its kind).
    workers
        Number of processes that corrupt and denoise. Default: one per core.
    """

    dataset: DatasetFolder | None = None
    limit: int = 500
    corruptions: Names | None = None
    severities: Annotated[list[int] | None, Parameter(negative=(), consume_multiple=True)] = None
    views: bool = True
    accelerator: Accelerator = "auto"
    workers: int | None = None

    def given(self) -> list[str]:
        """Return what differs from the defaults, as it is written on the command line."""
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return ["no-views" if name == "views" else name for name in changed]


@app.command
def calibrate(run: RunFolder, *, set_: Settings | None = None) -> None:
    """Fit calibration, prediction sets and rejection to a run's out-of-fold predictions; training does so at its end.

    Run it again after editing the weights in ensemble.json, or with other settings.

    Parameters
    ----------
    run
        A trained run.
    set_
        Change a setting of [calibrate], as in --set calibrate.coverage=0.95. May be repeated. Changes of earlier calls
        are kept.
    """
    fitted = nonet.calibrate(run, settings=set_)
    say(f"{nonet.Run(run).ensemble}: {fitted}")


@app.command
def evaluate(
    run: RunFolder,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    robustness: bool = False,
    robust: Annotated[RobustnessOptions, Parameter(name="*")] = RobustnessOptions(),
) -> None:
    """Score a run on the images held out from each member, and write tables, figures, a report and cards.

    RUN/evaluation then holds report.html, model_card.md and datasheet.md, and their tables and figures as CSV and SVG.

    Parameters
    ----------
    run
        A trained run.
    resamples
        Number of bootstrap resamples, drawn over patients.
    confidence
        Confidence level of the intervals.
    seed
        Random seed of the bootstrap, and of the images drawn and their corruption.
    robustness
        Also score held-out images that are corrupted on purpose, by corruption and severity, denoised and not. If
        interrupted, run it again to resume; other corruptions are added to earlier ones. The options below apply
        to it only.
    """
    from nonet.evaluation.tables import format_table

    if (given := robust.given()) and not robustness:
        raise NonetError(f"--{given[0]} applies to --robustness only.", hint="Add --robustness.")
    options = {"num_resamples": resamples, "confidence": confidence, "seed": seed}
    if robustness:
        _evaluate_robustness(run, robust, options)
    table = nonet.evaluate(run, **options)
    say(format_table(table))
    say(f"Report: {Path(run) / 'evaluation' / 'report.html'}; beside it model_card.md and datasheet.md")


def _evaluate_robustness(run: Path, robust: RobustnessOptions, options: dict) -> None:
    from nonet.evaluation.robustness import format_robustness

    found = nonet.evaluate_robustness(
        run,
        dataset=robust.dataset,
        limit=robust.limit,
        corruptions=split_commas(robust.corruptions),
        severities=robust.severities,
        views=robust.views,
        accelerator=robust.accelerator,
        num_workers=robust.workers,
        **options,
    )
    say(f"Macro-F1 of corrupted images, {found.scores['images'].iloc[0]:,} drawn by class:")
    say(format_robustness(found))
    say()


@app.command
def issues(
    run: RunFolder,
    *,
    filter_by: Literal[
        "prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"
    ] = "prune_by_noise_rate",
    rank_by: Literal["normalized_margin", "self_confidence"] = "normalized_margin",
) -> None:
    """Find labels that are probably wrong, worst first, by confident learning on out-of-fold predictions.

    Writes RUN/evaluation/issues.csv, with the held-out cells that look most like each; issues_by_source.csv,
    issues_by_patient.csv and a figure, too. "nonet evaluate" does so with these defaults and shows them in its report.

    Parameters
    ----------
    run
        A trained run.
    filter_by
        Which labels count as issues: "both" and "confident_learning" are stricter; "predicted_neq_given" takes every
        image whose predicted class is not its label.
    rank_by
        normalized_margin compares the given class with the suggested one; self_confidence uses the given one alone.
    """
    found = nonet.issues(run, filter_by=filter_by, rank_by=rank_by)
    shown = ["rank", "image_id", "given", "suggested", "self_confidence", "normalized_margin"]
    if len(found):
        say(in_columns(found[shown].head(10).round(3)))
    say(f"All of them: {nonet.Run(run).issues}")


@app.command
def predict(
    run: Path,
    *images: str,
    out: Path,
    views: str | None = None,
    split: str | None = None,
    format: Literal["csv", "wbcbench"] = "csv",
    sample_submission: Path | None = None,
    unreadable_label: str | None = None,
    adapt_priors: Annotated[bool, Parameter(negative=())] = False,
    accelerator: Accelerator = "auto",
    workers: int | None = None,
) -> None:
    """Predict new images: label or "unidentified", probabilities and prediction set of each, in predictions.csv.

    Exit status 1 where images could not be read now but may be later; the same command then predicts only these.

    Parameters
    ----------
    run
        A trained run.
    images
        Files, folders, globs, a CSV with a column path, or a dataset folder.
    out
        Folder for the results. If interrupted, run the same command again to resume.
    views
        none, dihedral (or 8), random or random:N. Default: as in the recipe.
    split
        Of a dataset, predict only this split, for example test.
    format
        wbcbench writes the challenge's submission.csv (ID,labels) as well.
    sample_submission
        The challenge's CSV of IDs, each of which must be predicted.
    unreadable_label
        Class to submit for unreadable images; without it, an unreadable image prevents the submission.
    adapt_priors
        Estimate how common each class is among these images and move the class priors there; a label then depends on
        the other images. For samples of another mix that look alike; on the next patients of one hospital it made
        predictions worse.
    accelerator
        What to compute on: the best there is (auto), cpu, or a GPU (gpu; cuda and mps name its kind).
    workers
        Number of processes that read images. Default: one per core.
    """
    if not images:
        raise NonetError("There is no image to predict.", hint="Give files, folders, globs or a dataset.")
    if swapped := [image for image in images if Run(image).recipe.is_file()]:
        raise NonetError(f"{swapped[0]} is a run, not images.", hint="Write: nonet predict RUN IMAGES… --out FOLDER")
    Run(run).require()  # told now: the rest takes seconds to import
    predictions = nonet.predict(
        run,
        images,
        out=out,
        views=views,
        split=split,
        format=format,
        sample_submission=sample_submission,
        unreadable_label=unreadable_label,
        adapt_priors=adapt_priors,
        accelerator=accelerator,
        num_workers=workers,
    )
    say(predictions)
    if predictions.num_to_retry:
        sys.exit(1)


@app.command
def backbones() -> None:
    """List the networks: parameters with the head, input size, licence of the weights, and whether they are here."""
    say(nonet.list_backbones().to_string(index=False))


@app.command
def doctor() -> None:
    """Report what this machine can do and what is missing. Exit status 1 if nonet cannot work here."""
    findings = nonet.doctor()
    say(findings)
    if not findings.ok:
        sys.exit(1)


@recipes.default
def list_recipes() -> None:
    """List the recipes."""
    listed = nonet.list_recipes()
    width = max(map(len, listed))
    for name, description in listed.items():
        say(f"{name:{width}}  {description}")


@recipes.command
def show(name: str, *, set_: Settings | None = None) -> None:
    """Print a recipe with all its settings, as TOML to copy and edit.

    Parameters
    ----------
    name
        Name of a recipe or a TOML file.
    set_
        Change a setting, as in --set train.epochs=5. May be repeated.
    """
    say(nonet.load_recipe(name, set_).to_toml().removesuffix("\n"))


def _wrong_use(error: CycloptsError) -> NonetError:
    """Say in the words of our help what is wrong with a command's words."""
    chain = [*(error.command_chain or ())]
    message, argument, unused = str(error).strip(), error.argument, error.unused_tokens
    if type(error).__name__ == "MissingArgumentError" and argument is not None:
        positional = argument.field_info.kind is not argument.field_info.KEYWORD_ONLY
        if positional and not argument.tokens:
            message = f"{argument.name.lstrip('-').upper()} is missing."
        elif argument.required:
            message = f"{argument.name} is missing, or has no value."
        else:
            message = f"{argument.name} has no value."
    elif type(error).__name__ == "UnusedCliTokensError" and unused:
        message = f'"{" ".join(["nonet", *chain])}" does not take {" ".join(unused)}.'
        if chain == ["recipes"]:
            message = f"{message} {did_you_mean(unused[0], recipes)}".rstrip()
    return NonetError(message, hint=f'"{" ".join(["nonet", *chain, "--help"])}" says how it is used.')


def main() -> None:
    """Run the command line; an error of the user's is a message, not a traceback."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Words("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    sys.exit(exit_status_of(_command))


class _Words(logging.Formatter):
    """Formats a message so that names in it cannot command the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _command() -> None:
    try:
        with logging_redirect_tqdm(loggers=[logger]):  # a line of the log does not cut through a progress bar
            app.meta(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise _wrong_use(error) from error
