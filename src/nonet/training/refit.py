"""Classifier re-training (Kang et al., ICLR 2020): a linear head, fitted to the features of a trained network."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

#: scikit-learn's C, the inverse of the penalty on weights of standardised features: benchmarks/afterwards.md compares.
C = 1e-3
MAX_ITERATIONS = 1000
#: Features that vary less than this share of the median one count as if they varied so much.
SMALLEST_SCALE = 0.1


def fit_linear_head(
    features: np.ndarray, labels: np.ndarray, num_classes: int, *, weights: np.ndarray | None = None, c: float = C
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a multinomial logistic regression in which every class counts alike, however many images it has.

    Parameters
    ----------
    features : float (n, f), of training images. labels : int (n,), below num_classes.
    weights : (n,), how much an image counts among those of its class; None: all alike.
    c : scikit-learn's C, the inverse of the penalty on weights of standardised features.

    Returns
    -------
    weight (num_classes, f) and bias (num_classes,), float32: logits are `features @ weight.T + bias`. A class without
    images that count gets the mean of the training images' lowest logits, whatever the image; where there is but one
    class, it gets 1 and the others 0. Without any image, of a network that diverged, the head is not finite.
    """
    weight, bias = np.zeros((num_classes, features.shape[1]), np.float32), np.zeros(num_classes, np.float32)
    weights = np.ones(len(labels)) if weights is None else weights
    if not (weights > 0).all():
        features, labels, weights = features[weights > 0], labels[weights > 0], weights[weights > 0]
    present, number = np.unique(labels, return_inverse=True)
    if len(present) == 0:
        return weight + np.nan, bias + np.nan
    if len(present) == 1:  # nothing to tell apart
        bias[present] = 1
        return weight, bias
    weight[present], bias[present] = _of_logistic_regression(features, number, weights, c)
    absent = np.setdiff1d(np.arange(num_classes), present)
    if len(absent):
        bias[absent] = (features @ weight[present].T + bias[present]).min(axis=1).mean()
    return weight, bias


def _of_logistic_regression(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (k, f) and bias (k,) of the raw features, for labels 0 … k - 1, each of which occurs."""
    scaler = StandardScaler().fit(features, sample_weight=weights)
    # A feature that is all but constant in training could be anything elsewhere; it is not blown up.
    scaler.scale_ = np.maximum(scaler.scale_, SMALLEST_SCALE * np.median(scaler.scale_))
    balanced = weights / np.bincount(labels, weights=weights)[labels] * (len(labels) / (labels.max() + 1))
    model = LogisticRegression(C=c, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        # The last digits of a head are worth no more iterations, and a warning would worry without need.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(features), labels, sample_weight=balanced)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # of two classes scikit-learn keeps the logit of the second over the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_
