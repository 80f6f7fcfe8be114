"""Out-of-distribution scores of images, higher for images less like those of training. NumPy in, NumPy out.

Both say how far an image's features lie from those of the training images. benchmarks/rejection.py compares them with
other published scores (benchmarks/ood_candidates.py) on real cells.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import MiniBatchKMeans

#: Of the features' axes, the share that the training images are said to lie in.
PRINCIPAL_SHARE = 0.25
#: Directions in which the training images' features are said to lie; from 16 to 64 it hardly matters.
NUM_PROTOTYPES = 32


@dataclass(frozen=True)
class PrincipalSpace:
    """Where the features of training images lie: the axes along which they differ most, through their mean.

    `centre` (f,); `axes` (f, d), orthonormal.
    """

    centre: np.ndarray
    axes: np.ndarray

    def residual(self, features: np.ndarray) -> np.ndarray:
        """Length, float64 (n,), of what features (n, f) have outside of that space.

        The residual of ViM (Wang, Li, Feng & Zhang, CVPR 2022) without its logits. What a network has learned to
        tell apart lies within the space; an image that moves features elsewhere is like none that it was trained on.
        """
        centred = features - self.centre
        return np.linalg.norm(centred - centred @ self.axes @ self.axes.T, axis=1).astype(np.float64)


def fit_principal_space(features: np.ndarray, *, num_axes: int) -> PrincipalSpace:
    """Fit the space to features (n, f) of training images; it has min(num_axes, n − 1, f − 1) axes, at least 0."""
    features = np.asarray(features, dtype=np.float64)
    centre = features.mean(0)
    centred = features - centre
    _, vectors = np.linalg.eigh(centred.T @ centred)  # from the least to the greatest variance
    num_axes = max(0, min(num_axes, len(features) - 1, features.shape[1] - 1))
    return PrincipalSpace(centre, vectors[:, ::-1][:, :num_axes])


def fit_prototypes(features: np.ndarray, *, num_prototypes: int = NUM_PROTOTYPES) -> np.ndarray:
    """Return the prototypes of features (n, f) of training images: min(num_prototypes, n) directions, float32 (k, f).

    Centres of k-means among features brought to unit length, and brought to it themselves (a centre at zero stays
    there); the same for the same features.
    """
    # Nothing stops it early: what would, depends on sums whose order threads may change.
    kmeans = MiniBatchKMeans(
        min(num_prototypes, len(features)),
        batch_size=2048,
        max_iter=10,
        n_init=1,
        tol=0,
        max_no_improvement=None,
        random_state=0,
    )
    return unit_length(kmeans.fit(unit_length(features)).cluster_centers_)


def nearest_prototype(prototypes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Distance, float64 (n,), of features (n, f) brought to unit length to the nearest of prototypes (k, f).

    The distance to the nearest neighbour (Sun, Ming, Zhu & Li, ICML 2022), with a few directions in place of a bank of
    training images; 1 for features of zero, which have no direction. NaN where features are not finite.
    """
    # In double precision, as what is near a prototype differs from it in the last digits of single precision.
    return cdist(unit_length(features, np.float64), prototypes).min(1)


def unit_length(features: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Bring features (n, f) to length 1; what has none stays at zero."""
    features = np.asarray(features, dtype=dtype)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
