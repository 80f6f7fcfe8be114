"""The held-out cells that look most like a doubtful one, for a reviewer to compare it with.

Features of different members cannot be compared: each network has axes of its own. So neighbours are sought among the
images held out with an image, in the features of the one member that saw none of them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.features import Features
from nonet.artifacts.integrity import reading, require_member
from nonet.artifacts.run import Member, Run, repair_hint
from nonet.errors import RunError
from nonet.evaluation.metrics import macro_f1_score
from nonet.evaluation.oof import OutOfFold
from nonet.evaluation.run_data import RunData

logger = logging.getLogger("nonet")

NUM_NEIGHBOURS = 3
_NUMBERS_AT_ONCE = 20_000_000  # of a block of distances, 80 MB


def find_neighbours(
    run: Run, oof: OutOfFold, issues: np.ndarray, classes: np.ndarray, *, num_neighbours: int = NUM_NEIGHBOURS
) -> tuple[np.ndarray, str | None]:
    """Find the images most like each issue among those whose label is one class and is not itself in doubt.

    Parameters
    ----------
    run : Run
        The run, with its members' features.
    oof : OutOfFold
        Its predictions.
    issues : ndarray of int, shape (num_issues,)
        Indices into `oof`. An issue is not an example of its class.
    classes : ndarray of int, shape (num_issues, k)
        Class numbers: for each issue, the k classes to find examples of.
    num_neighbours : int
        How many examples per class.

    Returns
    -------
    neighbours : ndarray of int64, shape (num_issues, k, num_neighbours)
        Indices into `oof`, nearest first; -1 where a class has fewer examples or no features are stored.
    architecture : str or None
        The architecture whose features were compared: among those with stored features, the one that predicts the most
        images, and of these the one with the best macro-F1. None where no features are stored.
    """
    neighbours = np.full((*classes.shape, num_neighbours), -1, dtype=np.int64)
    architecture = _best_with_features(run, oof)
    if architecture is None:
        logger.info("%s has no features of its members: issues have no neighbours.", run)
        return neighbours, None
    is_issue = np.zeros(len(oof.true), dtype=bool)
    is_issue[issues] = True
    is_judged = np.isfinite(oof.logits[0, oof.architectures.index(architecture)]).all(axis=-1)
    for file in _files(run, architecture):
        stored = _read(file)
        if stored is None:
            continue
        rows, images = _rows_in(stored, oof)
        judged = is_judged[images]  # the features of a dead member say nothing
        images, features = images[judged], stored.reduced[rows[judged]]
        place = np.full(len(oof.true), -1)
        place[images] = np.arange(len(images))
        here = np.flatnonzero(place[issues] >= 0)
        example_class = np.where(is_issue[images], -1, oof.true[images])
        for k in np.unique(classes[here]):
            examples = np.flatnonzero(example_class == k)
            row, column = np.nonzero(classes[here] == k)
            queries = features[place[issues[here[row]]]]
            near = nearest(queries, features[examples], num_neighbours)
            neighbours[here[row], column] = np.where(near >= 0, images[examples][near], -1) if len(examples) else -1
    return neighbours, architecture


@dataclass(frozen=True)
class LabelledCell:
    """A held-out image of a run that looks like another image.

    Attributes
    ----------
    image_id, label : str
    similarity : float
        Cosine of the angle between their features, at most 1.
    """

    image_id: str
    label: str
    similarity: float


class LabelledCells:
    """The held-out images of a run whose labels are not in doubt, to compare new images with.

    Each fold's images are compared in the features of the member that saw none of them. Members have axes of their own,
    but angles between features are comparable, so the nearest of all folds are ranked together.

    Parameters
    ----------
    run : Run
        With the members' features and, if it was evaluated, its label issues.
    data : RunData
        What was read of it.
    """

    def __init__(self, run: Run, data: RunData):
        self._oof = data.oof
        in_doubt = np.zeros(0, dtype=object)
        if run.issues.is_file():
            with reading(run.issues, hint=f'Run "nonet issues {run}" again.'):
                in_doubt = read_csv(run.issues, usecols=["image_id"], dtype=str)["image_id"].to_numpy(dtype=object)
        is_example = ~np.isin(data.oof.image_id.astype(str), in_doubt.astype(str))
        self.architecture = _best_with_features(run, data.oof)
        self._by_member: dict[str, tuple[Features, np.ndarray, np.ndarray]] = {}
        for file in _files(run, self.architecture) if self.architecture else []:
            features = _read(file)
            if features is not None:
                rows, images = _rows_in(features, data.oof)
                chosen = is_example[images]
                member = f"{self.architecture}/{file.parent.name}"
                self._by_member[member] = features, rows[chosen], images[chosen]

    def nearest(self, features: Mapping[str, np.ndarray], num_neighbours: int = NUM_NEIGHBOURS) -> list[LabelledCell]:
        """Return the images most like a new one.

        Parameters
        ----------
        features : mapping of str to ndarray of float, shape (num_features,)
            Member, as ARCHITECTURE/fold-K → its features of the new image. Those without examples are not used.
        num_neighbours : int
            How many to return, at most.

        Returns
        -------
        list of LabelledCell
            The most similar first.
        """
        found = []
        for member, (stored, rows, images) in self._by_member.items():
            if member in features and len(rows):
                similarity = stored.similarity(features[member])[rows]
                best = np.argsort(-similarity, kind="stable")[:num_neighbours]
                found += [self._cell(image, value) for image, value in zip(images[best], similarity[best])]
        return sorted(found, key=lambda cell: (-cell.similarity, cell.image_id))[:num_neighbours]

    def _cell(self, image: int, similarity: float) -> LabelledCell:
        label = self._oof.classes[self._oof.true[image]]
        return LabelledCell(str(self._oof.image_id[image]), label, float(similarity))


def nearest(queries: np.ndarray, examples: np.ndarray, num_neighbours: int) -> npt.NDArray[np.int64]:
    """Find the nearest examples of each query by Euclidean distance.

    Parameters
    ----------
    queries : ndarray of float, shape (num_queries, num_features)
        One row per query.
    examples : ndarray of float, shape (num_examples, num_features)
        One row per example.
    num_neighbours : int
        How many to find.

    Returns
    -------
    ndarray of int64, shape (num_queries, num_neighbours)
        Rows of `examples`, nearest first; -1 where there are too few examples.
    """
    places = np.full((len(queries), num_neighbours), -1, dtype=np.int64)
    num_found = min(num_neighbours, len(examples))
    if num_found == 0:
        return places
    squares = np.einsum("ij,ij->i", examples, examples)
    step = max(1, _NUMBERS_AT_ONCE // len(examples))
    for start in range(0, len(queries), step):
        # |a − e|² without |a|², which is the same for every example.
        distance = squares - 2 * (queries[start : start + step] @ examples.T)
        part = np.argpartition(distance, num_found - 1, axis=1)[:, :num_found]
        order = np.argsort(np.take_along_axis(distance, part, axis=1), axis=1, kind="stable")
        places[start : start + step, :num_found] = np.take_along_axis(part, order, axis=1)
    return places


def _files(run: Run, architecture: str) -> list[Path]:
    return sorted(run.folder.glob(f"members/{architecture}/fold-*/features.npz"))


def _best_with_features(run: Run, oof: OutOfFold) -> str | None:
    scores: dict[str, tuple[int, float]] = {}
    for name in oof.architectures:
        if len(_files(run, name)) >= oof.num_folds[name]:
            confusion = oof.confusions(oof.final_view_set, name).total()
            scores[name] = int(confusion.sum()), float(macro_f1_score(confusion))
    return max(scores, key=lambda name: scores[name]) if scores else None


def _read(path: Path) -> Features | None:
    """Return a member's features; None, with a warning, if the file is damaged: it costs its neighbours only."""
    member = Member(path.parent, path.parent.parent.name, int(path.parent.name.removeprefix("fold-")))
    try:
        require_member(member, path)
        with reading(path, hint=repair_hint(member.run)):
            return Features.read(path)
    except RunError as error:
        logger.warning("%s Cells of fold %d have no neighbours. %s", error.message, member.fold, error.hint)
        return None


def _rows_in(features: Features, oof: OutOfFold) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of features of evaluated images, and these images as indices into `oof`."""
    index = pd.Index(oof.image_id).get_indexer(features.image_id.astype(object))
    rows = np.flatnonzero(index >= 0)
    return rows, index[rows]
