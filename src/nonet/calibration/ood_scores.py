"""Out-of-distribution scores of images, higher for images less like those of training. NumPy in, NumPy out.

Both say how far an image's features lie from those of the training images. benchmarks/rejection.py compares them with
other published scores (benchmarks/ood_candidates.py) on real cells.
"""

from dataclasses import dataclass

import numpy as np

#: Share of the features' axes that span the training images.
PRINCIPAL_SHARE = 0.25
#: Number of directions that stand for the training images' features; from 16 to 64 it hardly matters.
NUM_PROTOTYPES = 32


@dataclass(frozen=True)
class PrincipalSpace:
    """The principal axes of the training images' features, through their mean.

    Attributes
    ----------
    centre : ndarray of float, shape (f,)
        Mean of the features.
    axes : ndarray of float, shape (f, d)
        Orthonormal columns.
    """

    centre: np.ndarray
    axes: np.ndarray

    def residual(self, features: np.ndarray) -> np.ndarray:
        """Return the length of the part of each feature vector that lies outside the space.

        What a network has learned to tell apart lies within the space; an image with features elsewhere is unlike
        those it was trained on.

        Parameters
        ----------
        features : ndarray of float, shape (n, f)
            Of any images.

        Returns
        -------
        ndarray of float64, shape (n,)

        References
        ----------
        Wang, Li, Feng & Zhang, CVPR 2022: ViM, here without its logits.
        """
        centred = features - self.centre
        return np.linalg.norm(centred - centred @ self.axes @ self.axes.T, axis=1).astype(np.float64)


def fit_principal_space(features: np.ndarray, *, num_axes: int) -> PrincipalSpace:
    """Fit the principal space.

    Parameters
    ----------
    features : ndarray of float, shape (n, f)
        Of the training images.
    num_axes : int
        At most; never more than n - 1 or f - 1.

    Returns
    -------
    PrincipalSpace
    """
    features = np.asarray(features, dtype=np.float64)
    centre = features.mean(0)
    centred = features - centre
    _, vectors = np.linalg.eigh(centred.T @ centred)  # from the least to the greatest variance
    num_axes = max(0, min(num_axes, len(features) - 1, features.shape[1] - 1))
    return PrincipalSpace(centre, vectors[:, ::-1][:, :num_axes])


def fit_prototypes(features: np.ndarray, *, num_prototypes: int = NUM_PROTOTYPES) -> np.ndarray:
    """Return the prototypes of the training images: k-means centres of normalised features, normalised again.

    Parameters
    ----------
    features : ndarray of float, shape (n, f)
        Of the training images.
    num_prototypes : int, default NUM_PROTOTYPES
        At most; never more than n.

    Returns
    -------
    ndarray of float32, shape (k, f)
        The same for the same features. A centre at zero stays there.
    """
    from sklearn.cluster import MiniBatchKMeans  # here, as predicting uses this module and needs no scikit-learn

    # No early stopping: it would depend on sums whose order threads may change.
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
    """Return the distance of normalised features to the nearest prototype.

    Parameters
    ----------
    prototypes : ndarray of float, shape (k, f)
        As `fit_prototypes` returns them.
    features : ndarray of float, shape (n, f)
        Of any images.

    Returns
    -------
    ndarray of float64, shape (n,)
        1 for features of zero, which have no direction; NaN for features that are not finite.

    References
    ----------
    Sun, Ming, Zhu & Li, ICML 2022: the distance to the nearest neighbours, here to a few directions instead of all
    training images.
    """
    from scipy.spatial.distance import cdist

    # In double precision, as features near a prototype differ from it in the last digits of single precision.
    return cdist(unit_length(features, np.float64), prototypes).min(1)


def unit_length(features: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Normalise features (n, f) to length 1; zeros stay zeros."""
    features = np.asarray(features, dtype=dtype)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
