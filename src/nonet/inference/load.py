"""Opening a trained run: everything that can be checked without torch is checked before torch is imported."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import require_unchanged
from nonet.artifacts.mirror import fetched
from nonet.artifacts.run import MAKE_ONE, Run, repair_hint
from nonet.artifacts.stores import has_file
from nonet.artifacts.urls import as_url
from nonet.errors import DamagedError, RecipeError, RunError, choose_from, did_you_mean
from nonet.inference.backends.choice import choose_backend
from nonet.models.accelerators import require_devices
from nonet.recipe import Predict, Recipe, load_recipe

if TYPE_CHECKING:
    from nonet.inference.ensemble import Ensemble
    from nonet.inference.int8 import Int8

logger = logging.getLogger("nonet")

EffortName = Literal["full", "auto"]
#: What is copied of a run in an object store: what "nonet train" leaves, without states of training and reports.
_TO_PREDICT = (
    *("*.toml", "*.json", "*.parquet", "*.csv", "samples.npz"),
    *(f"members/*/*/{name}" for name in ("weights.safetensors", "oof.parquet", "features.npz", "ood.npz", "DONE")),
)
EFFORTS: tuple[str, ...] = get_args(EffortName)


@dataclass(frozen=True)
class OpenedRun:
    """A fully trained run whose networks are not loaded yet.

    Attributes
    ----------
    run : Run
    recipe : Recipe
    ensemble : EnsembleFile
        Content of ensemble.json.
    place : str
        Where the run is: its absolute path, or its address in an object store, of which `run` is a copy.
    """

    run: Run
    recipe: Recipe
    ensemble: EnsembleFile
    place: str

    @property
    def classes(self) -> list[str]:
        """Class codes, in the column order of the logits."""
        return self.ensemble.classes

    def load(self, accelerator: str, backend: str, effort: str) -> "Ensemble":
        """Load the networks onto an accelerator and a backend, with an effort, each named as for `nonet.load`."""
        from nonet.inference.effort import fit_effort
        from nonet.inference.ensemble import Ensemble

        name, int8 = self.choose_backend(backend, accelerator)
        if all(member.reason for member in self.ensemble.members if member.weight > 0):
            logger.warning(f"All networks of {self.run} died in training, so its predictions are worthless.")
        return Ensemble(
            self.run,
            self.recipe,
            self.ensemble,
            accelerator=accelerator,
            backend=name,
            int8=int8,
            effort=fit_effort(self.run, self.recipe, self.ensemble) if effort == "auto" else None,
        )

    def choose_backend(self, backend: str, accelerator: str) -> "tuple[str, Int8 | None]":
        """Return the backend that a name stands for with this run, and when int8 is not relied on."""
        name = choose_backend(backend, accelerator)
        if name != "openvino-int8" and not (backend == "auto" and name == "openvino"):
            return name, None
        from nonet.inference.int8 import choose_int8

        int8 = choose_int8(self.run, self.recipe, self.ensemble, make=name == "openvino-int8")
        return (name, None) if int8 is None else ("openvino-int8", int8)


def load(
    run: str | Path | Run, *, accelerator: str = "auto", backend: str = "auto", effort: str = "full"
) -> "Ensemble":
    """Load a run's ensemble.

    Parameters
    ----------
    run : str, path or Run
        A trained run.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.
    backend : {"auto", "torch", "openvino", "openvino-int8"}
        What runs the networks: "auto" is OpenVINO on a CPU and PyTorch on a GPU. "openvino-int8" takes two
        thirds of the time; images close to another decision are predicted again without int8, which keeps 99.75 % of
        the out-of-fold decisions. It is made once, with the run's images, which takes minutes; from then on
        "auto" uses it too.
    effort : {"full", "auto"}
        "auto" leaves out views of cells that are sure without them: fewer than one decision in a thousand changes.

    Returns
    -------
    Ensemble

    Raises
    ------
    RunError
        If there is no run, it is not fully trained, or this machine lacks the accelerator or the backend.
    """
    require_devices(accelerator)
    choose_backend(backend, accelerator)
    require_effort(effort)
    return open_run(run).load(accelerator, backend, effort)


def require_effort(effort: str) -> None:
    """Check the name of an effort.

    Raises
    ------
    RunError
        If it is unknown.
    """
    if effort not in EFFORTS:
        raise RunError(f'Unknown effort "{effort}".', hint=choose_from(effort, EFFORTS))


def open_run(run: str | Path | Run) -> OpenedRun:
    """Read a run's recipe and ensemble.json, without loading networks.

    Parameters
    ----------
    run : str, path or Run
        A trained run, also in an object store.

    Returns
    -------
    OpenedRun

    Raises
    ------
    RunError
        If there is no run, it is not fully trained, or the weights of a member with non-zero weight are missing.
    """
    if (url := as_url(run)) is None:
        return _open(Run(run), None)
    if not has_file(f"{url}/recipe.toml"):  # before anything is copied
        raise RunError(f"{url} is not a nonet run: recipe.toml is missing.", hint=MAKE_ONE)
    with fetched(url, only=_TO_PREDICT) as folder:
        return _open(Run(folder), url)


def _open(run: Run, url: str | None) -> OpenedRun:
    """Read a run's folder; `url` is where it is a copy of."""
    run.require()
    ensemble = EnsembleFile.read(run)
    require_unchanged(run)
    for file in (run.manifest, run.folds):  # not needed to predict, but the run is damaged
        try:
            require_unchanged(run, file)
        except RunError as error:
            logger.warning(error)
    for entry in ensemble.members:
        weights = run.member(entry.architecture, entry.fold).weights
        if entry.weight > 0 and not weights.exists():
            raise DamagedError(f"{weights} is missing.", hint=repair_hint(run))
    return OpenedRun(run, load_recipe(run.recipe), ensemble, url or str(run.folder.absolute()))


def parse_views(views: str | int | None, settings: Predict) -> Predict:
    """Return the recipe's [predict] section with other views.

    Parameters
    ----------
    views : str, int or None
        None keeps the recipe's; 1 or "none" is the image as it is; 8 or "dihedral" the flips and quarter turns;
        "random" the recipe's number of random views, "random:16" sixteen.
    settings : Predict
        The recipe's section.

    Returns
    -------
    Predict

    Raises
    ------
    RecipeError
        If the views are unknown; lists the choices.
    """
    if views is None:
        return settings
    text = {"1": "none", "8": "dihedral"}.get(str(views), str(views))
    name, colon, number = text.partition(":")
    changes = {"views": name} | ({"num_random_views": number} if colon else {})
    try:
        if colon and name != "random":
            raise ValueError(f"{name} has no number")
        return Predict.model_validate(settings.model_dump() | changes)
    except ValueError as error:  # pydantic's; or a number of too many digits
        choices = did_you_mean(name, ("none", "dihedral", "random"))
        hint = f"{choices}Choose none, dihedral (or 8), random or random:N, N from 1 to 1024."
        raise RecipeError(f'Unknown views "{text[:40]}".', hint=hint) from error
