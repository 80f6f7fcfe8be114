"""Near duplicates: the same picture recompressed, resized, brightened, rotated or mirrored.

A perceptual hash computed in eight views would miss copies whose bits straddle a threshold. Here the low frequencies
of the thumbnail (its discrete cosine transform, as in pHash) stay real numbers. Rotating or mirroring by right angles
only changes their signs and swaps rows with columns, so their magnitudes, with each pair (u, v), (v, u) sorted, are the
same for all eight views; and two such descriptors are never farther apart than the thumbnails in their best matching
view. Comparing descriptors of 63 numbers first, by matrix products, therefore misses no pair: some twenty seconds per
core for 60,000 images. The thumbnails of the few candidates then decide.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.fft import dctn

#: Smallest correlation of thumbnails of near duplicates; see docs/decisions/0009.
MIN_SIMILARITY = 0.98
_FREQUENCIES = 8  # lowest ones in each direction
_FLAT = 1.0  # grey levels: a picture with a smaller standard deviation has nothing to compare
_MAX_NEIGHBOURS = 16  # candidates per image; bounds the work where thousands look alike
_BATCH_SIZE = 1024  # images, or pairs, compared at a time
UNCHANGED = "unchanged"
#: Names of the eight views, in the order of `_views`.
VIEWS = (
    UNCHANGED,
    "rotated by 90°",
    "rotated by 180°",
    "rotated by 270°",
    "mirrored",
    "mirrored, rotated by 90°",
    "mirrored, rotated by 180°",
    "mirrored, rotated by 270°",
)


def near_duplicates(thumbnails: np.ndarray, *, min_similarity: float = MIN_SIMILARITY) -> pd.DataFrame:
    """Find pairs of images that show the same picture in any of the eight dihedral views.

    Parameters
    ----------
    thumbnails : ndarray of uint8, shape (n, side, side)
        Grey; see `compute_image_stats`.
    min_similarity : float
        Smallest correlation of a pair.

    Returns
    -------
    DataFrame
        One row per pair, most similar first, with the columns

        - first, second: indices into `thumbnails`, first < second;
        - similarity: correlation in the best view;
        - view: the one of `VIEWS` that turns the second image into the first.

        At most the 16 most similar later images are returned for each image. Flat images have no duplicates.
    """
    normed, indices = _normalise(thumbnails)
    if len(indices) < 2:
        return _table([], [], [], [])
    pairs = _candidates(_descriptors(normed), 2 * (1 - min_similarity))
    similarity, view = _best_views(normed, pairs)
    similar = similarity >= min_similarity
    return _table(indices[pairs[similar, 0]], indices[pairs[similar, 1]], similarity[similar], view[similar])


def _candidates(descriptors: np.ndarray, max_squared_distance: float) -> np.ndarray:
    """Return the pairs within a distance: int64 (m, 2)."""
    norms = (descriptors**2).sum(axis=1)
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(descriptors), _BATCH_SIZE):
        # |a - b|² ≤ d² is a·b - |b|²/2 ≥ (|a|² - d²)/2; 1e-5 allows for float32 rounding.
        product = descriptors[start : start + _BATCH_SIZE] @ descriptors[start:].T
        product -= norms[start:] / 2
        near = product >= (norms[start : start + _BATCH_SIZE, None] - max_squared_distance) / 2 - 1e-5
        near &= np.tri(near.shape[0], near.shape[1], k=0, dtype=bool) == 0  # each pair once
        for row in np.flatnonzero(near.sum(axis=1) > _MAX_NEIGHBOURS):
            neighbours = np.flatnonzero(near[row])
            order = np.argsort(-product[row, neighbours], kind="stable")
            near[row, neighbours[order[_MAX_NEIGHBOURS:]]] = False
        pairs.append(np.argwhere(near) + start)
    return np.concatenate(pairs)


def _table(
    first: ArrayLike, second: ArrayLike, similarity: ArrayLike, view: Sequence[int] | np.ndarray
) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "first": np.asarray(first, dtype=np.int64),
            "second": np.asarray(second, dtype=np.int64),
            "similarity": np.asarray(similarity, dtype=np.float64),
            "view": [VIEWS[k] for k in view],
        }
    )
    return table.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _normalise(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thumbnails of mean 0 and norm 1, float32, and their indices, without those that are flat."""
    flat = thumbnails.std(axis=(1, 2)) < _FLAT
    indices = np.flatnonzero(~flat)
    values = thumbnails[indices].astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    values /= np.linalg.norm(values, axis=(1, 2), keepdims=True)
    return values, indices


def _descriptors(normed: np.ndarray) -> np.ndarray:
    """Return float32 (n, 63), the same for all eight views of an image."""
    size = np.abs(dctn(normed, axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES])
    mirrored = size.transpose(0, 2, 1)
    upper = np.triu_indices(_FREQUENCIES, 1)
    diagonal = np.arange(1, _FREQUENCIES)  # the first is the mean, which is 0
    parts = (np.minimum(size, mirrored)[:, *upper], np.maximum(size, mirrored)[:, *upper], size[:, diagonal, diagonal])
    return np.concatenate(parts, axis=1)


def _views(images: np.ndarray) -> list[np.ndarray]:
    rotated = [np.rot90(images, k, axes=(1, 2)) for k in range(4)]
    mirrored = images[:, :, ::-1]
    return rotated + [np.rot90(mirrored, k, axes=(1, 2)) for k in range(4)]


def _best_views(normed: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest correlation of each pair over the views of its second image, and the index of that view."""
    best, view = np.empty(len(pairs)), np.empty(len(pairs), dtype=np.int64)
    for start in range(0, len(pairs), _BATCH_SIZE):
        part = slice(start, start + _BATCH_SIZE)
        first = normed[pairs[part, 0]]
        all_views = np.stack([(first * view).sum(axis=(1, 2)) for view in _views(normed[pairs[part, 1]])])
        view[part] = all_views.argmax(axis=0)
        best[part] = all_views.max(axis=0)
    return best, view
