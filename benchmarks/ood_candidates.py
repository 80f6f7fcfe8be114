"""Published out-of-distribution scores that nonet does not use, for benchmarks/rejection.py. NumPy in, NumPy out.

Scores are higher for images less like those of training. They use either an image's logits, or the distance of its
features from those of the training images. test_ood_candidates.py checks them against SciPy, scikit-learn and PyTorch.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from nonet.calibration.ood_scores import fit_principal_space, unit_length


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
class ClassGaussians:
    """Classes as Gaussians that share a covariance, plus one Gaussian for all classes together.

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
        """Squared distance to the nearest class, (n,). Lee et al., NeurIPS 2018, on the last features only."""
        return self.distances(features).min(1)

    def relative_mahalanobis(self, features: np.ndarray) -> np.ndarray:
        """The same minus the squared distance to all classes together, (n,). Ren et al., arXiv:2106.09022."""
        return self.mahalanobis(features) - ((self._project(features) @ self.background) ** 2).sum(1)

    def _project(self, features: np.ndarray) -> np.ndarray:
        return (np.asarray(features, dtype=np.float64) - self.centre) @ self.projection


def fit_class_gaussians(features: np.ndarray, labels: np.ndarray, *, num_axes: int | None = None) -> ClassGaussians:
    """Fit the Gaussians to features (n, f) and class numbers (n,) of training images.

    Covariances use Ledoit and Wolf's (2004) shrinkage. `num_axes` keeps only that many principal axes. A class without
    images has no mean.
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
    """Distance, (n,), of features (n, f) to the k-th nearest neighbour in the bank (m, f), all at unit length.

    Sun, Ming, Zhu & Li, ICML 2022. `bank` holds features of training images; k is capped at m.
    """
    near = NearestNeighbors(n_neighbors=min(k, len(bank)), algorithm="brute").fit(unit_length(bank))
    return near.kneighbors(unit_length(features))[0][:, -1].astype(np.float64)
