"""The same joint, the same issues and the same order as cleanlab's, which is by confident learning's authors."""

import cleanlab
import numpy as np
import pytest
from cleanlab.count import compute_confident_joint, estimate_joint, get_confident_thresholds
from cleanlab.rank import get_label_quality_scores
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from nonet.evaluation import label_issues

# cleanlab says so of every class with one image, and of classes without any; both belong to what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:May not flag all label issues")


def require_the_same(labels, proba):
    theirs = compute_confident_joint(labels, proba, calibrate=False)
    np.testing.assert_array_equal(label_issues.confident_joint(labels, proba), theirs)
    theirs = compute_confident_joint(labels, proba, calibrate=True)
    np.testing.assert_array_equal(label_issues.confident_joint(labels, proba, calibrate=True), theirs)
    np.testing.assert_allclose(label_issues.estimate_joint(labels, proba), estimate_joint(labels, proba), atol=1e-9)
    np.testing.assert_allclose(
        label_issues.class_thresholds(labels, proba), get_confident_thresholds(labels, proba), atol=1e-12
    )
    for rank_by in label_issues.QUALITIES:
        ours = label_issues.label_quality(labels, proba, method=rank_by)
        np.testing.assert_allclose(ours, get_label_quality_scores(labels, proba, method=rank_by), atol=1e-12)
        for filter_by in label_issues.FILTERS:
            options = {"filter_by": filter_by, "return_indices_ranked_by": rank_by, "n_jobs": 1}
            theirs = cleanlab.filter.find_label_issues(labels, proba, **options)
            ours = label_issues.find_label_issues(labels, proba, filter_by=filter_by, rank_by=rank_by)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{filter_by}, {rank_by}")


def draw(seed, *, num_images, num_classes, evenness, skill, noise=0.15):
    """Labels of unevenly filled classes, 15 % of them wrong, and probabilities that know the true ones by `skill`."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(num_classes, evenness))
    true = rng.choice(num_classes, size=num_images, p=share)
    true[:2] = 0, 1  # cleanlab wants two classes
    given = np.where(rng.random(num_images) < noise, rng.choice(num_classes, size=num_images, p=share), true)
    given[:2] = 0, 1
    logits = rng.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), true] += skill
    proba = np.exp(logits)
    return given, proba / proba.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("skill", [0, 1, 3, 8])
@pytest.mark.parametrize("num_classes", [2, 5, 13])
@pytest.mark.parametrize("evenness", [0.2, 1, 20], ids=["absent and rare classes", "uneven", "even"])
def test_random_probabilities(num_classes, evenness, skill):
    for seed, num_images in enumerate((6, 80, 900)):
        require_the_same(*draw(seed, num_images=num_images, num_classes=num_classes, evenness=evenness, skill=skill))


@pytest.mark.parametrize("seed", range(6))
def test_ties(seed):
    labels, proba = draw(seed, num_images=400, num_classes=6, evenness=1, skill=2)
    proba = np.maximum(np.round(proba * 8), 0.5)  # many images and classes of the same probability
    require_the_same(labels, proba / proba.sum(axis=1, keepdims=True))


def test_probabilities_of_nought_and_one():
    labels, proba = draw(0, num_images=300, num_classes=4, evenness=5, skill=3)
    require_the_same(labels, np.eye(4)[proba.argmax(axis=1)])


def test_digits_with_wrong_labels():
    images, true = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    given = np.where(rng.random(len(true)) < 0.1, (true + 1) % 10, true)
    model = LogisticRegression(C=0.01, max_iter=200)
    proba = cross_val_predict(model, images / 16, given, cv=3, method="predict_proba")
    require_the_same(given, proba)
