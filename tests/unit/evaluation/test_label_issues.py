"""Label issues: what the paper says by hand, planted noise found again, bad input refused, threads kept apart."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nonet
from nonet.errors import DataError
from nonet.evaluation.label_issues import FILTERS, QUALITIES, find_label_issues, label_quality

#: Three images of class 0, the last one looks like 1; two of class 1; class 2 has no image.
LABELS = np.array([0, 0, 0, 1, 1])
PROBA = np.array([[0.9, 0.1, 0], [0.7, 0.3, 0], [0.1, 0.85, 0.05], [0.2, 0.8, 0], [0.35, 0.25, 0.4]])


def noisy(transition, *, num_images=20_000, skill=2.5, seed=0):
    """Given labels drawn from true ones by `transition` (C, C), and probabilities of the true class that are right."""
    rng = np.random.default_rng(seed)
    num_classes = len(transition)
    true = rng.integers(num_classes, size=num_images)
    given = (rng.random(num_images)[:, None] > np.cumsum(transition, axis=1)[true]).sum(axis=1)
    logits = skill * (rng.normal(size=(num_images, num_classes)) / 2 + 2 * np.eye(num_classes)[true])
    proba = np.exp(logits)
    return true, given, proba / proba.sum(axis=1, keepdims=True)


def test_issues_by_hand():
    # Thresholds are 1.7 / 3 and 1.05 / 2: the third image (0.85) is confidently class 1, the last one of no class.
    np.testing.assert_array_equal(find_label_issues(LABELS, PROBA), [2])
    np.testing.assert_array_equal(find_label_issues(LABELS, PROBA, filter_by="confident_learning"), [2])
    np.testing.assert_array_equal(find_label_issues(LABELS, PROBA, filter_by="predicted_neq_given"), [2, 4])


def test_quality_by_hand():
    np.testing.assert_allclose(label_quality(LABELS, PROBA), [0.9, 0.7, 0.125, 0.8, 0.425])
    np.testing.assert_allclose(label_quality(LABELS, PROBA, method="self_confidence"), [0.9, 0.7, 0.1, 0.8, 0.25])


def test_planted_noise_is_found_again():
    transition = np.array([[0.9, 0.1, 0], [0, 1, 0], [0.05, 0.15, 0.8]])
    true, given, proba = noisy(transition)
    issues = find_label_issues(given, proba)
    wrong = given != true
    assert wrong[issues].mean() > 0.9
    assert wrong[issues].sum() > 0.8 * wrong.sum()


def test_right_labels_of_sure_models_have_no_issue():
    labels = np.arange(300) % 3
    proba = np.where(np.eye(3)[labels] == 1, 0.9, 0.05)
    for filter_by in FILTERS:
        assert find_label_issues(labels, proba, filter_by=filter_by).size == 0


@pytest.mark.parametrize("rank_by", QUALITIES)
@pytest.mark.parametrize("filter_by", FILTERS)
def test_the_order_of_images_and_classes_does_not_matter(filter_by, rank_by):
    _, given, proba = noisy(np.full((4, 4), 0.05) + 0.8 * np.eye(4), num_images=500)
    issues = find_label_issues(given, proba, filter_by=filter_by, rank_by=rank_by)
    quality = label_quality(given, proba, method=rank_by)
    assert (np.diff(quality[issues]) >= 0).all()
    images, classes = np.random.default_rng(1).permutation(500), np.array([2, 0, 3, 1])
    moved = find_label_issues(
        np.argsort(classes)[given[images]], proba[images][:, classes], filter_by=filter_by, rank_by=rank_by
    )
    # Rounding and equal qualities may fall otherwise, an image or two a class; everything else is the same.
    assert len(set(images[moved]) ^ set(issues)) <= 8


def test_both_is_what_two_filters_agree_on():
    _, given, proba = noisy(np.full((4, 4), 0.1) + 0.6 * np.eye(4), num_images=800, skill=1)
    found = {name: set(find_label_issues(given, proba, filter_by=name)) for name in FILTERS}
    assert found["both"] == found["prune_by_noise_rate"] & found["prune_by_class"]
    assert found["both"] != found["prune_by_noise_rate"]
    assert all(issues <= found["predicted_neq_given"] for issues in found.values())


@pytest.mark.parametrize("filter_by", FILTERS)
def test_absent_and_single_classes_are_normal_and_silent(filter_by):
    proba = np.array([[0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0], [0.1, 0.8, 0.1, 0], [0, 0.1, 0.9, 0], [0.8, 0.2, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(find_label_issues([0, 1, 0, 2, 0], proba, filter_by=filter_by)) <= {2}
        for label in (0, 3):
            assert find_label_issues([label] * 5, proba, filter_by=filter_by).size == 0


def test_lists_and_half_precision_are_taken():
    np.testing.assert_array_equal(find_label_issues(LABELS.tolist(), PROBA.tolist()), [2])
    np.testing.assert_array_equal(find_label_issues(LABELS.astype(np.uint8), PROBA.astype(np.float16)), [2])


def test_threads_do_not_disturb_each_other():
    noise = np.full((4, 4), 0.05) + 0.8 * np.eye(4)
    inputs = [noisy(noise, num_images=3000, seed=seed)[1:] for seed in range(4)]
    alone = [find_label_issues(*arrays) for arrays in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, expected in zip(pool.map(lambda arrays: find_label_issues(*arrays), inputs), alone, strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Given and true class numbers of drawn cells, a tenth mislabelled, and probabilities for patients left out."""
    counts = {"BL": 50, "PMY": 60, "BNE": 70, "SNE": 80, "MO": 60, "LY": 80, "VLY": 60}
    folder = nonet.draw_dataset(
        tmp_path_factory.mktemp("issues") / "drawn",
        num_images=counts,
        num_patients=10,
        size_px=32,
        seed=3,
        label_error_rate=0.1,
        num_workers=1,
    )
    truth = pd.read_csv(folder / "truth.csv")
    images = np.stack([np.asarray(Image.open(folder / path)) for path in truth["path"]]) / 255.0
    radius = np.hypot(*(np.mgrid[:32, :32] - 15.5))
    rings = [images[:, (radius >= inner) & (radius < inner + 2)] for inner in range(0, 15, 2)]
    features = np.concatenate([part for ring in rings for part in (ring.mean(axis=1), ring.std(axis=1))], axis=1)
    codes = sorted(counts)
    given, true = (truth[name].map(codes.index).to_numpy() for name in ("given_label", "true_label"))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    options = {"groups": truth["patient"], "cv": GroupKFold(5), "method": "predict_proba"}
    return given, true, cross_val_predict(model, features, given, **options)


def test_planted_errors_of_drawn_cells_are_found(drawn):
    given, true, proba = drawn
    wrong = given != true
    issues = find_label_issues(given, proba)
    precision, recall = wrong[issues].mean(), wrong[issues].sum() / wrong.sum()
    assert wrong.mean() == pytest.approx(0.1, abs=0.01)
    assert precision > 0.25  # chance is 0.1, and so is …
    assert recall > 0.6  # … the recall of as many images drawn by lot: fewer than a quarter of all are issues
    assert len(issues) < 0.25 * len(given)
    assert wrong[issues[: wrong.sum() // 2]].mean() > precision  # the worst come first


@pytest.mark.parametrize(
    ("labels", "proba", "words"),
    [
        ([0, 1], [[0.5, 0.5]], r"shape \(2,\) and probabilities of shape \(1, 2\)"),
        ([], np.zeros((0, 2)), "at least one image"),
        ([0], [[1.0]], "two classes"),
        ([0, 2], [[0.5, 0.5]] * 2, "first is that of image 1: 2.*0 to 1"),
        ([-1, 0], [[0.5, 0.5]] * 2, "first is that of image 0: -1"),
        (["SNE", "LY"], [[0.5, 0.5]] * 2, "class numbers.*SNE"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "class numbers"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.4]], "image 1.*sums to 0.9"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "1 rows are not probability.*image 1"),
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], "image 0"),
        ([0, 1], [[np.inf, 0.5], [0.5, 0.5]], "image 0"),
        ([0, 1], [[1.0009, 0], [0.5, 0.5]], "image 0"),
        ([0, 1], [["a", "b"], ["c", "d"]], "must be numbers"),
    ],
)
def test_bad_input_is_refused(labels, proba, words):
    for function in (find_label_issues, label_quality):
        with pytest.raises(DataError, match=f"(?s){words}"):
            function(labels, proba)


def test_an_unknown_choice_is_refused_with_what_there_is():
    with pytest.raises(DataError, match="prune_by_noise_rate"):
        find_label_issues(LABELS, PROBA, filter_by="best")
    with pytest.raises(DataError, match="self_confidence"):
        find_label_issues(LABELS, PROBA, rank_by="entropy")
