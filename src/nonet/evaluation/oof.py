"""Out-of-fold logits in arrays: each image once for every architecture and view set, checked for completeness."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from nonet.artifacts.ensemble_file import Weights
from nonet.artifacts.oof import first_rows, logit_classes, logit_columns, values_by_architecture
from nonet.calibration.fitting import HeldOut
from nonet.calibration.member_weights import folds_with_weight, mean_over_members, weights_by_image
from nonet.errors import RunError
from nonet.evaluation.bootstrap import GroupConfusions, confusions_by_group
from nonet.settings import NO_VIEWS

ENSEMBLE = "ensemble"
#: In place of a class, in the row of a table that sums up all images.
ALL_CLASSES = "all"
_TRAIN_AGAIN = 'Run "nonet train RECIPE DATASET --out RUN" again: it completes what is missing.'


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of a run for n images, each by members that never saw it.

    Attributes
    ----------
    classes, view_sets, architectures : list of str
        The names along the axes of `logits`.
    num_folds : dict of str to int
        Number of folds of each architecture.
    image_id : ndarray of str, shape (n,)
        In alphabetical order.
    true : ndarray of int64, shape (n,)
        Class numbers of the labels.
    patient : ndarray of object, shape (n,)
        None where the patient is unknown.
    group : ndarray of str, shape (n,)
        What the bootstrap draws: the patient, or the image where the patient is unknown.
    fold : ndarray of int64, shape (n,)
        The fold that the image is held out in.
    logits : ndarray of float64, shape (num_view_sets, num_architectures, n, C)
        NaN for images that an architecture's dead member would have had to predict.
    ood_score : ndarray of float64, shape (n,), or None
        Mean out-of-distribution score over members; None where no member has one.
    weight : ndarray of float64, shape (num_architectures, n), or None
        Weights of each image's members in the ensemble, as in `predict`; None for equal weights.
    nucleus : ndarray of bool, shape (n,), or None
        Whether the image shows what could be a nucleus; None where no member looked.
    """

    classes: list[str]
    view_sets: list[str]
    architectures: list[str]
    num_folds: dict[str, int]
    image_id: np.ndarray
    true: np.ndarray
    patient: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    logits: np.ndarray
    ood_score: np.ndarray | None = None
    weight: np.ndarray | None = None
    nucleus: np.ndarray | None = None

    @property
    def final_view_set(self) -> str:
        """The view set of predictions: one with test-time augmentation, where the run has one."""
        return self.view_sets[-1]

    @cached_property
    def ensemble_logits(self) -> np.ndarray:
        """The ensemble's logits, (view sets, n, C): the mean over architectures by their members' weights."""
        weight = np.ones((len(self.architectures), len(self.true))) if self.weight is None else self.weight
        return mean_over_members(self.logits, weight)

    @property
    def final_logits(self) -> np.ndarray:
        """The ensemble's logits with the final views, (n, C): what predictions are made of."""
        return self.ensemble_logits[self.view_sets.index(self.final_view_set)]

    @property
    def held_out(self) -> HeldOut:
        """The final logits as calibration is fitted on them."""
        return HeldOut(self.final_logits, self.true, self.group, self.fold)

    @property
    def num_patients(self) -> int:
        """Number of known patients."""
        return len({patient for patient in self.patient if patient is not None})

    @property
    def num_unknown_patients(self) -> int:
        """Number of images whose patient is unknown."""
        return sum(patient is None for patient in self.patient)

    def rows(self) -> list[tuple[str, str]]:
        """Return (view set, architecture) of every row of Table 1, the ensemble after its architectures."""
        return [(views, name) for views in self.view_sets for name in (*self.architectures, ENSEMBLE)]

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted class numbers, ndarray of int, shape (num_rows, n), ordered as `rows`; -1 for none."""
        with_mean = np.concatenate([self.logits, self.ensemble_logits[:, None]], axis=1)
        best = np.where(np.isnan(with_mean).any(axis=-1), -1, with_mean.argmax(axis=-1))
        return best.reshape(-1, len(self.true))

    def confusions(self, view_set: str | None = None, architecture: str | None = None) -> GroupConfusions:
        """Return confusion counts by group.

        Parameters
        ----------
        view_set, architecture : str, optional
            The row of Table 1; by default all rows.

        Returns
        -------
        GroupConfusions
            Of shape (num_rows, C, C), or (C, C) for one row.
        """
        predicted = self.predicted
        if view_set is not None and architecture is not None:
            predicted = predicted[self.rows().index((view_set, architecture))]
        return confusions_by_group(self.true, predicted, self.group, len(self.classes))


def align_oof(oof: pd.DataFrame, classes: list[str] | None = None, *, weights: Weights | None = None) -> OutOfFold:
    """Turn the long table of out-of-fold logits into arrays.

    Parameters
    ----------
    oof : DataFrame
        Columns image_id, label, patient, fold, architecture, view_set and `logit_<CLASS>`; rows in any order.
    classes : list of str, optional
        The C class codes; by default those of the logit columns.
    weights : Weights, optional
        Of the members; equal by default. Images of a fold whose members all have weight zero are left out, as no
        member of the ensemble can predict them. Rows of a member with weight zero may be missing.

    Returns
    -------
    OutOfFold
        Images in alphabetical order of their image_id.

    Raises
    ------
    RunError
        If nothing is left to evaluate, an image lacks an architecture or view set or has it twice, a label is not one
        of the classes, or a logit is not finite.
    """
    classes = logit_classes(oof) if classes is None else list(classes)
    if oof.empty or not classes:
        raise RunError(
            "No out-of-fold image is left to evaluate.", 'Mark images "evaluate" in the dataset\'s manifest.'
        )
    oof = oof if weights is None else _judged(oof, weights)
    oof = oof.assign(image_id=oof["image_id"].astype(str)).sort_values(["view_set", "architecture", "image_id"])
    _check_logits(oof, classes)
    first = first_rows(oof)
    image_id = first["image_id"].to_numpy(dtype=object)
    view_sets = sorted(oof["view_set"].unique(), key=lambda name: (name != NO_VIEWS, name))
    architectures = sorted(oof["architecture"].unique())
    fold = first["fold"].to_numpy(dtype=np.int64)
    _check_complete(oof, view_sets, architectures, image_id, fold, weights)
    of_views = {views: oof[oof["view_set"] == views] for views in view_sets}
    logits = np.stack(
        [values_by_architecture(rows, logit_columns(classes), architectures, image_id) for rows in of_views.values()]
    )
    weight = None if weights is None else weights_by_image(weights, architectures, fold)

    def mean(column: str) -> np.ndarray | None:
        """Return the mean of a column over an image's members, (n,). View sets share it."""
        if column not in oof:
            return None
        values = values_by_architecture(of_views[view_sets[0]], [column], architectures, image_id)
        return mean_over_members(values, np.ones(values.shape[:2]) if weight is None else weight)[:, 0]

    nucleus = mean("nucleus")
    patient = first["patient"].astype(object).where(first["patient"].notna(), None).to_numpy(dtype=object)
    return OutOfFold(
        classes=classes,
        view_sets=view_sets,
        architectures=architectures,
        num_folds={name: int(oof.loc[oof["architecture"] == name, "fold"].nunique()) for name in architectures},
        image_id=image_id,
        true=_class_numbers(first, classes),
        patient=patient,
        group=np.array([f"image {i}" if p is None else f"patient {p}" for i, p in zip(image_id, patient)]),
        fold=fold,
        logits=logits,
        ood_score=mean("ood_score"),
        weight=weight,
        nucleus=None if nucleus is None else nucleus > 0,
    )


def _judged(oof: pd.DataFrame, weights: Weights) -> pd.DataFrame:
    """Return the rows of images that some member with non-zero weight never saw."""
    counting = oof["fold"].isin(folds_with_weight(weights))
    if not counting.any():
        raise RunError(
            "All members with non-zero weight were trained on every evaluated image, so no image can be scored.",
            f"Give members of fold {oof['fold'].iloc[0]} a weight in ensemble.json, too.",
        )
    return oof[counting]


def _class_numbers(images: pd.DataFrame, classes: list[str]) -> np.ndarray:
    number = {code: i for i, code in enumerate(classes)}
    unknown = images[~images["label"].isin(classes)]
    if len(unknown):
        row = unknown.iloc[0]
        raise RunError(
            f"{len(unknown)} evaluated images have a label that the run was not trained on, first {row['image_id']}: "
            f'"{row["label"]}".',
            f"The run's classes are {', '.join(classes)}.",
        )
    return images["label"].map(number).to_numpy(dtype=np.int64)


def _check_logits(oof: pd.DataFrame, classes: list[str]) -> None:
    available = logit_classes(oof)
    absent = [code for code in classes if code not in available]
    if absent:
        raise RunError(f"The out-of-fold table has no logits of {', '.join(absent)}.", _TRAIN_AGAIN)
    finite = np.isfinite(oof[logit_columns(classes)].to_numpy()).all(axis=1)
    if not finite.all():
        row = oof[~finite].iloc[0]
        raise RunError(
            f"{(~finite).sum()} rows of out-of-fold logits are not finite, first image {row['image_id']} by "
            f"{row['architecture']}, fold {row['fold']}, views {row['view_set']}.",
            "That member diverged, and would again: a run's settings stay. Train into another `out` with a lower "
            "optimiser.learning_rate_first.",
        )


def _check_complete(
    oof: pd.DataFrame,
    view_sets: list[str],
    architectures: list[str],
    image_id: np.ndarray,
    fold: np.ndarray,
    weights: Weights | None,
) -> None:
    twice = oof[oof.duplicated(["view_set", "architecture", "image_id"])]
    if len(twice):
        row = twice.iloc[0]
        raise RunError(
            f"{len(twice)} out-of-fold rows occur twice, first image {row['image_id']} by {row['architecture']}.",
            'Delete oof.parquet and run "nonet train" again: it writes the table anew from the members.',
        )
    labels = oof.groupby("image_id")["label"].nunique()
    if (labels > 1).any():
        raise RunError(f"Image {labels.index[labels > 1][0]} has more than one label in the out-of-fold table.")
    present = oof.groupby(["architecture", "view_set"])["image_id"].agg(set).to_dict()
    for name in architectures:
        needed = image_id
        if weights is not None:
            needed = image_id[weights_by_image(weights, [name], fold)[0] > 0]
        for views in view_sets:
            missing = [i for i in needed if i not in present.get((name, views), ())]
            if missing:
                raise RunError(
                    f"{len(missing)} of {len(needed)} images have no out-of-fold logits by {name} "
                    f"(views: {views}), first {missing[0]}.",
                    _TRAIN_AGAIN,
                )
