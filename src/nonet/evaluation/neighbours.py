"""The held-out cells that look most like a doubtful one: what a reviewer compares it with.

Features of different members do not compare: each network has axes of its own. So neighbours are sought among the
images held out with an image, in the features of the one member that saw none of them.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.integrity import reading, require_member
from nonet.artifacts.run import Member, Run, heal_hint
from nonet.errors import RunError
from nonet.evaluation.metrics import macro_f1_score
from nonet.evaluation.oof import OutOfFold

logger = logging.getLogger("nonet")

NUM_NEIGHBOURS = 3
_NUMBERS_AT_ONCE = 20_000_000  # of a block of distances, 80 MB


def find_neighbours(
    run: Run, oof: OutOfFold, issues: np.ndarray, classes: np.ndarray, *, num_neighbours: int = NUM_NEIGHBOURS
) -> tuple[np.ndarray, str | None]:
    """Find the images most like each issue among those whose label is one class and is not itself in doubt.

    Parameters
    ----------
    issues : int (k,), indices into `oof`: the images to compare, and those that count as no example of their class.
    classes : int (k, c), class numbers: c classes to seek examples of for each issue.

    Returns
    -------
    int64 (k, c, num_neighbours), indices into `oof`, nearest first; -1 where a class has fewer, or no features are
    kept. And the architecture whose members' features were compared: of those that the run keeps features of, the
    one that judges the most images and has the best macro-F1; None where it keeps none.
    """
    neighbours = np.full((*classes.shape, num_neighbours), -1, dtype=np.int64)
    architecture = _best_with_features(run, oof)
    if architecture is None:
        logger.info("%s keeps no features of its members (it is of an earlier nonet): issues have no neighbours.", run)
        return neighbours, None
    is_issue = np.zeros(len(oof.true), dtype=bool)
    is_issue[issues] = True
    is_judged = np.isfinite(oof.logits[0, oof.architectures.index(architecture)]).all(axis=-1)
    for file in _files(run, architecture):
        images, features = _read(file, oof)
        judged = is_judged[images]  # the features of a dead member say nothing
        images, features = images[judged], features[judged]
        place = np.full(len(oof.true), -1)
        place[images] = np.arange(len(images))
        here = np.flatnonzero(place[issues] >= 0)
        examples_of = np.where(is_issue[images], -1, oof.true[images])
        for k in np.unique(classes[here]):
            examples = np.flatnonzero(examples_of == k)
            row, column = np.nonzero(classes[here] == k)
            asked = features[place[issues[here[row]]]]
            near = nearest(asked, features[examples], num_neighbours)
            neighbours[here[row], column] = np.where(near >= 0, images[examples][near], -1) if len(examples) else -1
    return neighbours, architecture


def nearest(asked: np.ndarray, examples: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Return int64 (n, num_neighbours): for each row of `asked` (n, d) the rows of `examples` (m, d) nearest to it.

    By Euclidean distance, nearest first; -1 where there are fewer than `num_neighbours` examples.
    """
    found = np.full((len(asked), num_neighbours), -1, dtype=np.int64)
    num_found = min(num_neighbours, len(examples))
    if num_found == 0:
        return found
    squares = np.einsum("ij,ij->i", examples, examples)
    step = max(1, _NUMBERS_AT_ONCE // len(examples))
    for start in range(0, len(asked), step):
        # |a − e|² without |a|², which is the same for every example.
        distance = squares - 2 * (asked[start : start + step] @ examples.T)
        part = np.argpartition(distance, num_found - 1, axis=1)[:, :num_found]
        order = np.argsort(np.take_along_axis(distance, part, axis=1), axis=1, kind="stable")
        found[start : start + step, :num_found] = np.take_along_axis(part, order, axis=1)
    return found


def _files(run: Run, architecture: str) -> list[Path]:
    return sorted(run.folder.glob(f"members/{architecture}/fold-*/features.npz"))


def _best_with_features(run: Run, oof: OutOfFold) -> str | None:
    scores = {}
    for name in oof.architectures:
        if len(_files(run, name)) >= oof.num_folds[name]:
            confusion = oof.confusions(oof.final_view_set, name).total()
            scores[name] = int(confusion.sum()), float(macro_f1_score(confusion))
    return max(scores, key=scores.get) if scores else None


def _read(path: Path, oof: OutOfFold) -> tuple[np.ndarray, np.ndarray]:
    """Return a member's held-out images, as indices into `oof`, and their features, float32 (n, d).

    No rows where they are damaged or cannot be read now, with a warning: they only find neighbours.
    """
    member = Member(path.parent, path.parent.parent.name, int(path.parent.name.removeprefix("fold-")))
    try:
        require_member(member, path)
        with reading(path, hint=heal_hint(member.run)), np.load(path, allow_pickle=False) as file:
            image_id, features = file["image_id"], file["features"].astype(np.float32)
    except RunError as error:
        logger.warning("%s Issues of fold %d have no neighbours. %s", error.message, member.fold, error.hint)
        image_id, features = np.zeros(0, dtype=str), np.zeros((0, 1), dtype=np.float32)
    index = pd.Index(oof.image_id).get_indexer(image_id.astype(object))
    return index[index >= 0], features[index >= 0]
