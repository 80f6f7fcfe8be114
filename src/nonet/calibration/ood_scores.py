"""Out-of-distribution scores of images, higher for images less like those of training. NumPy in, NumPy out.

From logits: what the head makes of an image. From features: how far they lie from those of the training images.
nonet uses `PrincipalSpace` and `nearest_prototype`; benchmarks/rejection.py says how the others compare on real cells.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

#: Of the features' axes, the share that the training images are said to lie in.
PRINCIPAL_SHARE = 0.25
#: Directions in which the training images' features are said to lie; from 16 to 64 it hardly matters.
NUM_PROTOTYPES = 32


def max_softmax_score(logits: np.ndarray) -> np.ndarray:
    """1 − the largest probability, (n,), of logits (n, classes). Hendrycks & Gimpel, ICLR 2017."""
    return 1 - softmax(np.asarray(logits, dtype=np.float64), axis=-1).max(-1)


def energy_score(logits: np.ndarray) -> np.ndarray:
    """−log Σ exp(logit), (n,): the free energy at a temperature of 1. Liu et al., NeurIPS 2020."""
    return -logsumexp(np.asarray(logits, dtype=np.float64), axis=-1)


def max_logit_score(logits: np.ndarray) -> np.ndarray:
    """−the largest logit, (n,). Hendrycks et al., ICML 2022."""
    return -np.asarray(logits, dtype=np.float64).max(-1)


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
    return _unit_length(kmeans.fit(_unit_length(features)).cluster_centers_)


def nearest_prototype(prototypes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Distance, float64 (n,), of features (n, f) brought to unit length to the nearest of prototypes (k, f).

    What `neighbour_score` measures, with a few directions in place of a bank; 1 for features of zero, which have no
    direction. NaN where features are not finite.
    """
    # In double precision, as what is near a prototype differs from it in the last digits of single precision.
    return cdist(_unit_length(features, np.float64), prototypes).min(1)


@dataclass(frozen=True)
class ClassGaussians:
    """Classes as Gaussians of one covariance, and all classes together as one Gaussian more.

    `(x − centre) @ projection` has d axes in which the covariance within classes is the identity. `centre` (f,),
    `projection` (f, d), `means` (classes, d), `background` (d, d), which whitens those axes for all classes together.
    """

    centre: np.ndarray
    projection: np.ndarray
    means: np.ndarray
    background: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance to each class, (n, classes), of features (n, f)."""
        axes = self._project(features)
        squared = (axes**2).sum(1)[:, None] - 2 * axes @ self.means.T + (self.means**2).sum(1)
        return np.maximum(squared, 0)

    def mahalanobis(self, features: np.ndarray) -> np.ndarray:
        """Squared distance to the nearest class, (n,). Lee et al., NeurIPS 2018, of the last features alone."""
        return self.distances(features).min(1)

    def relative_mahalanobis(self, features: np.ndarray) -> np.ndarray:
        """The same minus the squared distance to all classes together, (n,). Ren et al., arXiv:2106.09022."""
        return self.mahalanobis(features) - ((self._project(features) @ self.background) ** 2).sum(1)

    def _project(self, features: np.ndarray) -> np.ndarray:
        return (np.asarray(features, dtype=np.float64) - self.centre) @ self.projection


def fit_class_gaussians(features: np.ndarray, labels: np.ndarray, *, num_axes: int | None = None) -> ClassGaussians:
    """Fit the Gaussians to features (n, f) and class numbers (n,) of training images.

    Covariances are shrunk as Ledoit and Wolf (2004) do. `num_axes` keeps that many principal axes only. A class without
    an image has no mean.
    """
    features = np.asarray(features, dtype=np.float64)
    centre = features.mean(0)
    axes = np.eye(features.shape[1]) if num_axes is None else fit_principal_space(features, num_axes=num_axes).axes
    reduced = (features - centre) @ axes
    classes, number = np.unique(labels, return_inverse=True)
    means = np.stack([reduced[number == k].mean(0) for k in range(len(classes))])
    within = _whitening(LedoitWolf(assume_centered=True).fit(reduced - means[number]).covariance_)
    total = _whitening(LedoitWolf(assume_centered=True).fit(reduced).covariance_)
    return ClassGaussians(centre, axes @ within, means @ within, np.linalg.solve(within, total))


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """W (d, d) with W Wᵀ = covariance⁻¹."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors / np.sqrt(np.maximum(values, values.max() * 1e-12))


def neighbour_score(bank: np.ndarray, features: np.ndarray, *, k: int = 50) -> np.ndarray:
    """Distance, (n,), of features (n, f) to the k-th nearest of the bank (m, f), all brought to unit length.

    Sun, Ming, Zhu & Li, ICML 2022. `bank` holds training images; k is at most m.
    """
    near = NearestNeighbors(n_neighbors=min(k, len(bank)), algorithm="brute").fit(_unit_length(bank))
    return near.kneighbors(_unit_length(features))[0][:, -1].astype(np.float64)


def _unit_length(features: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    features = np.asarray(features, dtype=dtype)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
