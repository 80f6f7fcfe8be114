"""Near duplicates: the same picture recompressed, resized, lightened, turned or mirrored.

A perceptual hash in eight views would miss a copy whose bits straddle a threshold. Here the low frequencies of the
small copy (its cosine transform, as in pHash) stay numbers. Turning or mirroring only changes their signs and swaps
rows for columns, so their sizes, each pair (u, v), (v, u) in order, are the same for all eight views; and two of
these descriptors are never farther apart than the small copies in the view in which they fit best. So no pair is
missed where descriptors, 63 numbers each, are compared first, by matrix products: some twenty seconds a core for
60,000 images. The small copies of the few that are near then decide.
"""

import numpy as np
import pandas as pd
from scipy.fft import dctn

#: Correlation of the small copies from which two images are called near duplicates; see docs/decisions/0009.
MIN_SIMILARITY = 0.98
_FREQUENCIES = 8  # lowest ones, each way
_FLAT = 1.0  # grey levels: a picture that varies less has nothing to compare
_MOST_NEIGHBOURS = 16  # later ones looked at for each image; bounds the work where thousands look alike
_AT_ONCE = 1024  # images compared with all later ones, or pairs looked at
#: The eight views, in words, in the order in which `_views` makes them.
VIEWS = (
    "as it is",
    "turned by 90°",
    "turned by 180°",
    "turned by 270°",
    "mirrored",
    "mirrored, turned by 90°",
    "mirrored, turned by 180°",
    "mirrored, turned by 270°",
)


def near_duplicates(small: np.ndarray, *, min_similarity: float = MIN_SIMILARITY) -> pd.DataFrame:
    """Find pairs of images that show the same picture, in any of the eight dihedral views.

    Parameters
    ----------
    small : uint8 (n, side, side), grey; see `look_at`.
    min_similarity : correlation from which a pair counts.

    Returns
    -------
    DataFrame (first, second, similarity, view), a row a pair: places in `small`, first < second, the correlation in
    the best view, and the view, in words, that turns the second into the first. Most alike first. Of an image with
    more than 16 lookalikes behind it, the nearest 16 are given. Flat images have none.
    """
    normed, places = _normed(small)
    if len(places) < 2:
        return _table([], [], [], [])
    pairs = _candidates(_descriptors(normed), 2 * (1 - min_similarity))
    similarity, view = _best_views(normed, pairs)
    alike = similarity >= min_similarity
    return _table(places[pairs[alike, 0]], places[pairs[alike, 1]], similarity[alike], view[alike])


def _candidates(descriptors: np.ndarray, most_squared: float) -> np.ndarray:
    """Return int64 (m, 2), the pairs whose squared distance is at most this."""
    norms = (descriptors**2).sum(axis=1)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(descriptors), _AT_ONCE):
        # |a - b|² ≤ d² is a·b - |b|²/2 ≥ (|a|² - d²)/2; the slack is float32's.
        product = descriptors[start : start + _AT_ONCE] @ descriptors[start:].T
        product -= norms[start:] / 2
        near = product >= (norms[start : start + _AT_ONCE, None] - most_squared) / 2 - 1e-5
        near &= np.tri(*near.shape, k=0, dtype=bool) == 0  # later ones only
        for row in np.flatnonzero(near.sum(axis=1) > _MOST_NEIGHBOURS):
            those = np.flatnonzero(near[row])
            near[row, those[np.argsort(-product[row, those], kind="stable")[_MOST_NEIGHBOURS:]]] = False
        found.append(np.argwhere(near) + start)
    return np.concatenate(found)


def _table(first, second, similarity, view) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "first": np.asarray(first, dtype=np.int64),
            "second": np.asarray(second, dtype=np.int64),
            "similarity": np.asarray(similarity, dtype=np.float64),
            "view": [VIEWS[k] for k in view],
        }
    )
    return table.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _normed(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of mean 0 and norm 1, float32, and the places of those that are not flat."""
    flat = small.std(axis=(1, 2)) < _FLAT
    places = np.flatnonzero(~flat)
    values = small[places].astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    values /= np.linalg.norm(values, axis=(1, 2), keepdims=True)
    return values, places


def _descriptors(normed: np.ndarray) -> np.ndarray:
    """Return float32 (n, 63), the same for all eight views of an image."""
    size = np.abs(dctn(normed, axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES])
    mirrored = size.transpose(0, 2, 1)
    upper = np.triu_indices(_FREQUENCIES, 1)
    diagonal = np.arange(1, _FREQUENCIES)  # the first is the mean, which is 0
    parts = (np.minimum(size, mirrored)[:, *upper], np.maximum(size, mirrored)[:, *upper], size[:, diagonal, diagonal])
    return np.concatenate(parts, axis=1)


def _views(images: np.ndarray) -> list[np.ndarray]:
    turned = [np.rot90(images, k, axes=(1, 2)) for k in range(4)]
    mirrored = images[:, :, ::-1]
    return turned + [np.rot90(mirrored, k, axes=(1, 2)) for k in range(4)]


def _best_views(normed: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest correlation of each pair over the views of its second image, and that view's number."""
    best, view = np.empty(len(pairs)), np.empty(len(pairs), dtype=np.int64)
    for start in range(0, len(pairs), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        first = normed[pairs[part, 0]]
        all_views = np.stack([(first * view).sum(axis=(1, 2)) for view in _views(normed[pairs[part, 1]])])
        view[part] = all_views.argmax(axis=0)
        best[part] = all_views.max(axis=0)
    return best, view
