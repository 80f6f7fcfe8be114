"""Making int8 networks of a run's members with training images, and comparing their decisions out of fold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax
from tqdm import tqdm

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Member, Run
from nonet.data.preprocess.cache import PreparedImages, prepare_images
from nonet.data.preprocess.crop import Crop
from nonet.data.run_images import open_dataset_of
from nonet.errors import RunError
from nonet.inference.backends.conversion import to_int8
from nonet.inference.backends.openvino_cpu import OpenVinoBackend
from nonet.inference.ensemble import Ensemble
from nonet.inference.int8 import Int8, distance_to_another_decision, fit_int8
from nonet.models.backbones import get_crop
from nonet.models.views import batches, get_views
from nonet.progress import progress
from nonet.recipe import Recipe

NUM_CALIBRATION_IMAGES = 300
MAX_COMPARED_IMAGES = 4000
_CHUNK = 64


def make_int8(run: Run, recipe: Recipe, ensemble: EnsembleFile, members: Sequence[Member]) -> Int8:
    """Make the int8 form of members that have none, and set the margin on the images held out from each fold.

    Parameters
    ----------
    run : Run
    recipe : Recipe
        Of the run.
    ensemble : EnsembleFile
        Of the run.
    members : sequence of Member
        Those with non-zero weight.

    Returns
    -------
    Int8

    Raises
    ------
    RunError
        If the images of the run are not found.
    StorageError
        If a form cannot be kept in the run.
    """
    table, images = _images_of(run, recipe, members)
    with progress(total=2 * len(members), description="preparing int8 networks, once", unit="steps") as bar:
        _quantise(OpenVinoBackend(run, recipe, len(ensemble.classes)), members, table["fold"].to_numpy(), images, bar)
        held_out = table["evaluate"].to_numpy(dtype=bool) & table["fold"].notna().to_numpy()
        drawn = np.random.default_rng(1).permutation(np.flatnonzero(held_out))[:MAX_COMPARED_IMAGES]
        distances, changed = [], []
        for fold in sorted({member.fold for member in members}):
            rows = np.sort(drawn[table["fold"].to_numpy()[drawn] == fold])
            if len(rows):
                of_fold = ensemble.model_copy(update={"members": [one for one in ensemble.members if one.fold == fold]})
                distance, is_changed = _compare(run, recipe, of_fold, rows, images)
                distances.append(distance)
                changed.append(is_changed)
            bar.update(sum(member.fold == fold for member in members))
    return fit_int8(np.concatenate(distances), np.concatenate(changed))


def _images_of(
    run: Run, recipe: Recipe, members: Sequence[Member]
) -> tuple[pd.DataFrame, Mapping[Crop, PreparedImages]]:
    """Return the run's manifest with folds, and its images as members see them, in the same order."""
    try:
        dataset = open_dataset_of(run)
    except RunError as error:
        raise RunError(
            f"{error.message} int8 networks are calibrated with the images that the run was trained on.",
            hint='Bring the dataset back, or use `backend="openvino"`.',
        ) from error
    folds = pd.read_csv(run.folds, dtype={"image_id": str})
    table = folds.merge(pd.read_parquet(run.manifest), on="image_id", validate="one_to_one")
    images = prepare_images(
        [dataset.image_path(image_id) for image_id in table["image_id"]],
        table["sha256"].tolist(),
        crops=sorted({get_crop(member.architecture, recipe.models) for member in members}),
        denoise=recipe.denoise,
        cache_dir=dataset.folder / "cache",
        description="reading images of the run",
    )
    return table, images


def _quantise(
    backend: OpenVinoBackend,
    members: Sequence[Member],
    fold: np.ndarray,
    images: Mapping[Crop, PreparedImages],
    bar: tqdm,
) -> None:
    """Make the int8 form of each member that has none, calibrated with images that it was trained on."""
    models = backend.read_or_make(members)
    for member in members:
        form = backend.form_of(member, "openvino-int8")
        if not form.is_whole():
            trained_on = np.flatnonzero(fold != member.fold)
            drawn = np.random.default_rng(0).permutation(trained_on)[:NUM_CALIBRATION_IMAGES]
            seen = images[get_crop(member.architecture, backend.recipe.models)][np.sort(drawn)]
            turned = np.stack([np.rot90(image, number) for number, image in enumerate(seen)])
            form.write(to_int8(models[member.name], turned))
        bar.update()


def _compare(
    run: Run, recipe: Recipe, of_fold: EnsembleFile, rows: np.ndarray, images: Mapping[Crop, PreparedImages]
) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's distance to another decision in int8, and whether single precision decides differently."""
    views, labels = get_views(recipe.predict), []
    for backend in ("openvino", "openvino-int8"):
        ensemble = Ensemble(run, recipe, of_fold, backend=backend)
        parts = [
            ensemble.member_outputs({crop: images[crop][batch] for crop in ensemble.crops}, views)
            for batch in batches(rows, _CHUNK)
        ]
        logits, scores = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
        proba = softmax(ensemble.combine(logits), axis=1)
        nucleus = np.ones(len(rows), dtype=bool)  # whether there is one does not depend on networks
        labels.append(ensemble.label(proba, ensemble.ood_percentile(scores), nucleus)["label"].to_numpy(dtype=str))
    return distance_to_another_decision(ensemble, logits, scores), labels[0] != labels[1]
