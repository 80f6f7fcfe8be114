"""features.npz: the features of the images held out from a member, reduced so that they can be stored for all of them.

Training writes it; label issues and the review page compare images by it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nonet.artifacts.run import written_whole

#: Principal components that are stored of each image's features.
MAX_COMPONENTS = 64


@dataclass(frozen=True)
class Features:
    """Reduced features of a member's held-out images, and how those of other images are reduced alike.

    Features are scaled to unit length and reduced to the principal components of the held-out images. Euclidean
    distances between the rows are about those between the directions of the full features, so nearest neighbours are
    those by cosine. The components are fitted to these very features, the ones to be compared, as no other choice
    preserves the distances between them better. Components of the training images would be worse: a network draws those
    together class by class, so their components are mostly differences between classes, while held-out cells differ in
    other ways too.

    Attributes
    ----------
    image_id : ndarray of str, shape (n,)
    reduced : ndarray of float32, shape (n, k)
    mean : ndarray of float32, shape (f,)
        Of the unit vectors.
    axes : ndarray of float32, shape (f, k)
        The principal axes.
    """

    image_id: np.ndarray
    reduced: np.ndarray
    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, image_id: np.ndarray, features: np.ndarray, *, max_components: int = MAX_COMPONENTS) -> "Features":
        """Reduce the features of held-out images.

        Parameters
        ----------
        image_id : ndarray of str, shape (n,)
        features : ndarray of float, shape (n, f)
            Non-finite values, of a member that diverged, count as 0.
        max_components : int, default MAX_COMPONENTS
            Largest number of components.

        Returns
        -------
        Features
            With k = min(f, max_components).
        """
        directions = _directions(features)
        mean = directions.mean(axis=0)
        directions -= mean
        _, axes = np.linalg.eigh(directions.T @ directions)  # in ascending order of variance
        axes = axes[:, ::-1][:, :max_components]
        reduced = (directions @ axes).astype(np.float16).astype(np.float32)
        return cls(np.asarray(image_id, dtype=str), reduced, mean.astype(np.float32), axes.astype(np.float32))

    def similarity(self, feature: np.ndarray) -> np.ndarray:
        """Return how similar another image is to each of these.

        Parameters
        ----------
        feature : ndarray of float, shape (f,)
            Of the other image, by the same member.

        Returns
        -------
        ndarray of float32, shape (n,)
            About the cosine of the angle between the full features.
        """
        centred = _directions(feature[None])[0] - self.mean
        reduced = centred @ self.axes
        outside = max(float(centred @ centred - reduced @ reduced), 0.0)  # what no held-out image differs in
        squares = ((self.reduced - reduced.astype(np.float32)) ** 2).sum(axis=1) + np.float32(outside)
        return 1 - squares / 2

    def write(self, path: Path) -> None:
        """Write it whole."""
        with written_whole(path) as temporary:
            np.savez_compressed(
                temporary,
                image_id=self.image_id,
                features=self.reduced.astype(np.float16),
                mean=self.mean,
                axes=self.axes.astype(np.float16),
            )

    @classmethod
    def read(cls, path: Path) -> "Features":
        """Read a file that `write` wrote; to be called within `integrity.reading`, which explains damage."""
        with np.load(path, allow_pickle=False) as file:
            numbers = (file[name].astype(np.float32) for name in ("features", "mean", "axes"))
            return cls(file["image_id"], *numbers)


def _directions(features: np.ndarray) -> np.ndarray:
    directions = np.nan_to_num(features.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(np.float64).tiny)
