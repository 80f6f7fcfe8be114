"""`nonet calibrate`: fit what ensemble.json says of logits on a run's out-of-fold logits."""

from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import require_unchanged
from nonet.artifacts.run import Run
from nonet.errors import RecipeError
from nonet.recipe import load_recipe

if TYPE_CHECKING:
    from nonet.calibration.calibrator import Calibration


def calibrate(run: str | Path | Run, *, settings: list[str] | None = None) -> "Calibration":
    """Fit temperature, prior correction, prediction sets and rejection on a run's out-of-fold logits.

    Training does this at its end. Do it again with other settings, or after editing the weights in ensemble.json, which
    it rewrites. Scores of `evaluate` change only where priors are corrected.

    Parameters
    ----------
    run : str, Path or Run
        A trained run.
    settings : list of str, optional
        Changes to [calibrate], like "calibrate.coverage=0.95". What an earlier call changed stays changed; all else is
        as in the recipe.

    Returns
    -------
    Calibration
        Its notes say what could not be fitted.

    Raises
    ------
    RunError
        If the run is not trained to the end.
    RecipeError
        If a setting is of another section.
    """
    run = Run(run)
    run.require()
    others = [setting for setting in settings or [] if not setting.strip().startswith("calibrate.")]
    if others:
        raise RecipeError(
            f'"{others[0]}" is not a setting of calibration.',
            hint="Those begin with calibrate, like calibrate.coverage=0.95; others need a new training.",
        )
    ensemble = EnsembleFile.read(run)
    require_unchanged(run, run.oof, run.manifest, run.folds)
    recipe = load_recipe(run.recipe, settings)  # a wrong setting is an error before anything is fitted
    earlier = ensemble.calibration.settings or load_recipe(run.recipe).calibrate
    changed = recipe.model_copy(update={"calibrate": earlier})
    from nonet.calibration.fit_run import write_calibrated  # only now: what it imports takes seconds

    return write_calibrated(run, recipe, ensemble, load_recipe(changed, settings).calibrate)
