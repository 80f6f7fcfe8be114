"""Our scores equal scikit-learn's."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from nonet.evaluation import metrics

NUM_CLASSES = 5
labels = st.lists(st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=40)


def _ours_and_theirs(pairs):
    """Return our confusion matrix, true, predicted and the classes that have images."""
    true, predicted = np.array(pairs).T
    return metrics.confusion_matrix(true, predicted, NUM_CLASSES), true, predicted, np.unique(true)


@given(labels)
def test_confusion_matrix(pairs):
    ours, true, predicted, _ = _ours_and_theirs(pairs)
    np.testing.assert_array_equal(ours, oracle.confusion_matrix(true, predicted, labels=range(NUM_CLASSES)))


@given(labels)
def test_per_class_scores(pairs):
    ours, true, predicted, _ = _ours_and_theirs(pairs)
    options = {"labels": range(NUM_CLASSES), "average": None, "zero_division": 0}
    scores = metrics.per_class_scores(ours)
    theirs = oracle.precision_recall_fscore_support(true, predicted, **options)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs):
        np.testing.assert_allclose(scores[name], values, rtol=1e-14, err_msg=name)
    specificity = [oracle.recall_score(true != c, predicted != c, zero_division=0) for c in range(NUM_CLASSES)]
    np.testing.assert_allclose(scores["specificity"], specificity, rtol=1e-14)


@given(labels)
def test_macro_scores_over_classes_that_have_images(pairs):
    ours, true, predicted, present = _ours_and_theirs(pairs)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert metrics.macro_f1_score(ours) == pytest.approx(oracle.f1_score(true, predicted, **options), abs=1e-14)
    precision = oracle.precision_score(true, predicted, **options)
    assert metrics.macro_precision_score(ours) == pytest.approx(precision, abs=1e-14)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", message="A single label was found")
        accuracy = oracle.balanced_accuracy_score(true, predicted)
    assert metrics.balanced_accuracy_score(ours) == pytest.approx(accuracy, abs=1e-14)
    specificity = [oracle.recall_score(true != c, predicted != c, zero_division=0) for c in present]
    assert metrics.macro_specificity_score(ours) == pytest.approx(np.mean(specificity), abs=1e-14)


@settings(max_examples=20)
@given(st.lists(labels, min_size=1, max_size=6))
def test_a_stack_of_matrices_is_scored_as_each_alone(stack):
    matrices = np.array([_ours_and_theirs(pairs)[0] for pairs in stack])
    for score in metrics.SCORES.values():
        np.testing.assert_array_equal(score(matrices), [score(matrix) for matrix in matrices])
