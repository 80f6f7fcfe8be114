"""Classifier re-training (Kang et al., ICLR 2020): fit a linear head to the features of a trained network."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

#: scikit-learn's C, the inverse of the penalty on weights of standardised features (benchmarks/afterwards.md).
C = 1e-3
#: The same for the means of several stages (benchmarks/heads.md).
C_OF_STAGES = 3e-3
MAX_ITERATIONS = 1000
#: Lower limit of a feature's scale, as a share of the median scale.
SMALLEST_SCALE = 0.1


def fit_linear_head(
    features: np.ndarray, labels: np.ndarray, num_classes: int, *, weights: np.ndarray | None = None, c: float = C
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a multinomial logistic regression in which all classes have the same weight, however many images they have.

    Parameters
    ----------
    features : ndarray of float, shape (n, f)
        Of training images.
    labels : ndarray of int, shape (n,)
        Class numbers.
    num_classes : int
        Number of classes.
    weights : ndarray of float, shape (n,), optional
        Weight of an image among those of its class; by default all are equal.
    c : float, default C
        scikit-learn's C, the inverse of the penalty on weights of standardised features.

    Returns
    -------
    weight : ndarray of float32, shape (num_classes, f)
    bias : ndarray of float32, shape (num_classes,)
        Logits are `features @ weight.T + bias`. A class without images of non-zero weight gets, for every image, the
        mean of the training images' lowest logits. If there is only one class, its logit is 1 and the others 0.
        Without any image, as of a network that diverged, both arrays are NaN.
    """
    weight, bias = np.zeros((num_classes, features.shape[1]), np.float32), np.zeros(num_classes, np.float32)
    weights = np.ones(len(labels)) if weights is None else weights
    if not (weights > 0).all():
        features, labels, weights = features[weights > 0], labels[weights > 0], weights[weights > 0]
    present, number = np.unique(labels, return_inverse=True)
    if len(present) == 0:
        return weight + np.nan, bias + np.nan
    if len(present) == 1:  # nothing to fit
        bias[present] = 1
        return weight, bias
    weight[present], bias[present] = _fit_logistic_regression(features, number, weights, c)
    absent = np.setdiff1d(np.arange(num_classes), present)
    if len(absent):
        bias[absent] = (features @ weight[present].T + bias[present]).min(axis=1).mean()
    return weight, bias


def _fit_logistic_regression(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (k, f) and bias (k,) for raw features; each of the labels 0 … k - 1 must occur."""
    scaler = StandardScaler().fit(features, sample_weight=weights)
    # A feature that is nearly constant in training may vary elsewhere, so it is not scaled up without limit.
    scaler.scale_ = np.maximum(scaler.scale_, SMALLEST_SCALE * np.median(scaler.scale_))
    balanced = weights / np.bincount(labels, weights=weights)[labels] * (len(labels) / (labels.max() + 1))
    model = LogisticRegression(C=c, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        # More iterations would only change the last digits, so a warning would worry users needlessly.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(features), labels, sample_weight=balanced)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # for two classes scikit-learn has one logit, of the second over the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_
