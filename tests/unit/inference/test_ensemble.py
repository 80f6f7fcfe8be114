"""The ensemble: logits averaged over members and views, whatever the order; its files checked."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from nonet.artifacts.run import Run
from nonet.data.images.decode import load_rgb
from nonet.errors import DamagedError, DataError, NonetError, RecipeError, RunError
from nonet.evaluation.run_data import read_run
from nonet.inference.load import load, parse_views
from nonet.models.views import no_views
from nonet.recipe import Predict
from nonet.training.repair import set_aside_damaged_ensemble


@pytest.fixture(scope="module")
def ensemble(random_run):
    return load(random_run, accelerator="cpu")


@pytest.fixture(scope="module")
def paths(tiny_dataset):
    return tiny_dataset.paths()


@pytest.fixture
def run_copy(random_run, tmp_path):
    shutil.copytree(random_run.folder, tmp_path / "copy")
    return tmp_path / "copy"


def describe(run, **changes):
    file = run / "ensemble.json"
    description = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(description))


def weigh(run, *weights):
    members = json.loads((run / "ensemble.json").read_text())["members"]
    describe(run, members=[member | {"weight": w} for member, w in zip(members, weights, strict=True)])


def weighted(ensemble, weights):
    """The ensemble with as many members as there are weights; for `combine`, which looks at nothing else."""
    changed = copy.copy(ensemble)
    changed.members = [dataclasses.replace(ensemble.members[0], weight=weight) for weight in weights]
    return changed


@given(data=st.data(), num_members=st.integers(1, 6), num_images=st.integers(1, 5))
def test_the_average_is_the_same_whatever_the_order(ensemble, data, num_members, num_images):
    weights = data.draw(st.lists(st.floats(0.01, 10), min_size=num_members, max_size=num_members))
    logits = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 5, (num_members, num_images, 3))
    average = weighted(ensemble, weights).combine(logits)
    assert np.allclose(average, np.average(logits, axis=0, weights=weights))
    order = data.draw(st.permutations(range(num_members)))
    assert np.allclose(weighted(ensemble, [weights[i] for i in order]).combine(logits[order]), average)
    images = data.draw(st.permutations(range(num_images)))
    assert np.allclose(weighted(ensemble, weights).combine(logits[:, images]), average[images])


@given(shift=st.floats(-1e4, 1e4), seed=st.integers(0, 99))
def test_softmax_sums_to_one_however_large_the_logits(shift, seed):
    logits = np.random.default_rng(seed).normal(0, 300, (4, 5)) + shift
    proba = softmax(logits, axis=-1)
    assert np.isfinite(proba).all()
    assert np.allclose(proba.sum(1), 1)
    assert (proba.argmax(1) == logits.argmax(1)).all()


def test_images_views_and_members_differ(ensemble, paths):
    """Else most tests of this file could not fail."""
    logits = ensemble.predict_logits(paths, views=1)
    assert logits.std(0).min() > 0.05
    assert np.abs(ensemble.predict_logits(paths, views=8) - logits).max() > 0.05


def test_names_probabilities_and_logits_agree(ensemble, paths):
    logits, proba = ensemble.predict_logits(paths), ensemble.predict_proba(paths)
    assert logits.shape == (len(paths), len(ensemble.classes))
    assert np.allclose(proba, np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    assert ensemble.predict(paths) == [ensemble.classes[k] for k in logits.argmax(1)]


def test_the_average_is_that_of_members_and_views(ensemble, paths):
    """By hand: each member, each of the eight turns and flips of the prepared image, one by one."""
    prepared = ensemble.prepare(paths[0])
    by_hand = []
    for member in ensemble.members:
        square = prepared[member.crop].astype(np.float32)
        for flipped in (square, square[:, ::-1]):
            for turns in range(4):
                image = torch.from_numpy(np.rot90(flipped, turns).copy()).permute(2, 0, 1)[None]
                with torch.inference_mode():
                    by_hand.append(ensemble.torch_networks[member.name].module(image)[0].numpy())
    assert np.allclose(ensemble.predict_logits(paths[:1], views="dihedral")[0], np.mean(by_hand, 0), atol=1e-5)


def test_dihedral_views_do_not_care_how_the_cell_lay(ensemble, paths):
    (crop,) = ensemble.crops  # of this size already: resizing rounds, and not alike when turned
    image = ensemble.prepare(paths[0])[crop]
    turned = [np.ascontiguousarray(np.rot90(image, k)) for k in range(4)] + [np.ascontiguousarray(image[::-1])]
    logits = ensemble.predict_logits(turned, views=8)
    assert np.allclose(logits, logits[0], atol=1e-4)
    plain = ensemble.predict_logits(turned, views=1)
    assert not np.allclose(plain, plain[0], atol=1e-4)


@pytest.mark.parametrize("views", ["none", "dihedral", "random:3"])
def test_a_prediction_does_not_depend_on_what_is_predicted_with_it(ensemble, paths, views):
    many = (paths * 3)[:70]  # more than a chunk
    together = ensemble.predict_logits(many, views=views)
    alone = np.concatenate([ensemble.predict_logits([path], views=views) for path in many[60:]])
    assert np.allclose(together[60:], alone, atol=1e-5)
    assert np.allclose(ensemble.predict_logits(many[::-1], views=views), together[::-1], atol=1e-5)


def test_views_are_what_they_are_called(ensemble, paths):
    def logits(views):
        return ensemble.predict_logits(paths[:4], views=views)

    assert np.array_equal(logits(1), logits("none"))
    assert np.array_equal(logits("1"), logits("none"))
    assert np.array_equal(logits(8), logits("dihedral"))
    assert np.array_equal(logits(None), logits("dihedral"))  # the recipe's
    assert np.array_equal(logits("random"), logits("random:8"))
    assert np.array_equal(logits("random:1"), logits("none"))
    assert not np.allclose(logits("random:3"), logits("random"))
    assert not np.allclose(logits("none"), logits("dihedral"))


@pytest.mark.parametrize(
    "views",
    [
        "",
        "eight",
        0,
        2,
        -1,
        16,
        "8:2",
        "1:1",
        "none:1",
        "random:",
        "random:0",
        "random:-1",
        "random:x",
        "random:1:2",
        "random:1000000000",
        "random:" + "9" * 5000,
    ],
)
def test_other_views_are_refused(views):
    with pytest.raises(RecipeError, match="Unknown views") as caught:
        parse_views(views, Predict())
    assert "random:N" in caught.value.hint


def test_views_keep_the_recipes_seed():
    assert parse_views("random:3", Predict(seed=5)) == Predict(views="random", num_random_views=3, seed=5)


def test_arrays_paths_and_one_path_are_taken(ensemble, paths):
    from_paths = ensemble.predict_logits(paths[:3])
    assert np.allclose(ensemble.predict_logits([load_rgb(path) for path in paths[:3]]), from_paths, atol=1e-5)
    assert np.allclose(ensemble.predict_logits(paths[0]), from_paths[:1], atol=1e-5)
    assert np.allclose(ensemble.predict_logits(str(paths[0])), from_paths[:1], atol=1e-5)
    assert ensemble.predict_proba([]).shape == (0, 3)
    assert ensemble.predict([]) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 3), np.uint8)],
)
def test_arrays_that_are_no_images_are_refused(ensemble, image):
    with pytest.raises(DataError, match=r"An image is \w+ of shape"):
        ensemble.predict([image])


def test_an_unreadable_image_is_named(ensemble, paths, tmp_path):
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:200])
    with pytest.raises(DataError, match=r"cut\.png"):
        ensemble.predict([paths[0], tmp_path / "cut.png"])


def test_a_member_of_weight_zero_is_left_out(run_copy, tiny_run, ensemble, paths):
    prepared = [ensemble.prepare(path) for path in paths[:5]]
    stacked = {crop: np.stack([one[crop] for one in prepared]) for crop in ensemble.crops}
    first, second = ensemble.member_logits(stacked, no_views())
    weigh(run_copy, 0, 1)
    shutil.rmtree(run_copy / "members" / "vit_mini" / "fold-0")  # not even read
    assert np.allclose(load(run_copy, accelerator="cpu").predict_logits(paths[:5], views=1), second, atol=1e-5)
    assert not np.allclose(first, second)


def test_weights_weigh(run_copy, ensemble, paths):
    prepared = [ensemble.prepare(path) for path in paths[:5]]
    stacked = {crop: np.stack([one[crop] for one in prepared]) for crop in ensemble.crops}
    first, second = ensemble.member_logits(stacked, no_views())
    weigh(run_copy, 3, 1)
    weighed = load(run_copy, accelerator="cpu").predict_logits(paths[:5], views=1)
    assert np.allclose(weighed, 0.75 * first + 0.25 * second, atol=1e-5)


def test_the_temperature_divides_logits(run_copy, ensemble, paths):
    describe(run_copy, temperature=2.5)
    hot = load(run_copy, accelerator="cpu")
    assert np.allclose(hot.predict_logits(paths), ensemble.predict_logits(paths) / 2.5, atol=1e-6)
    assert hot.predict(paths) == ensemble.predict(paths)


def test_a_doubtful_cell_is_unidentified_and_its_best_class_is_still_reported(run_copy, ensemble, paths):
    proba = ensemble.predict_proba(paths)
    limit = float(np.median(proba.max(1)))
    describe(run_copy, calibration={"min_confidence": limit})
    doubting = load(run_copy, accelerator="cpu")
    best = [ensemble.classes[k] for k in proba.argmax(1)]
    assert doubting.predict(paths, best=True) == best
    expected = [code if p >= limit else "unidentified" for code, p in zip(best, proba.max(1))]
    assert doubting.predict(paths) == expected
    assert "unidentified" in expected


def test_the_bias_moves_the_priors_and_is_no_matter_of_the_classes_order(run_copy, ensemble, paths):
    bias = {"SNE": 0.5, "EO": -1.0, "LY": 0.0}
    describe(run_copy, calibration={"bias": bias})
    moved = load(run_copy, accelerator="cpu").predict_logits(paths)
    assert np.allclose(moved, ensemble.predict_logits(paths) + [bias[code] for code in ensemble.classes])


def test_a_set_holds_what_reaches_its_threshold_and_is_never_empty(run_copy, ensemble, paths):
    proba = ensemble.predict_proba(paths)
    limits = dict(zip(ensemble.classes, np.median(proba, axis=0).tolist()))
    describe(run_copy, calibration={"coverage": 0.9, "thresholds": limits | {"LY": 2.0}})
    sets = load(run_copy, accelerator="cpu").predict_set(paths)
    for row, inside in zip(proba, sets):
        order = [ensemble.classes[k] for k in np.argsort(-row)]
        p = dict(zip(ensemble.classes, row))
        assert inside == [c for i, c in enumerate(order) if i == 0 or (c != "LY" and p[c] >= limits[c])]
    assert {1, 2} <= {len(inside) for inside in sets}


def test_without_thresholds_there_are_no_sets(ensemble, paths):
    with pytest.raises(RunError, match="has no prediction sets") as caught:
        ensemble.predict_set(paths)
    assert "nonet calibrate" in caught.value.hint


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ([1], "calibration"),
        ({"bias": {"LY": 1}}, "bias must have one number per class"),
        ({"bias": {"LY": 1, "EO": 0, "SNE": "much"}}, "bias.SNE is 'much'"),
        ({"min_confidence": 50}, "min_confidence is 50"),
        ({"thresholds": [0, 1, 2]}, "thresholds"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(run_copy, calibration, words):
    describe(run_copy, calibration=calibration)
    with pytest.raises(RunError, match=words):
        load(run_copy, accelerator="cpu")


def test_a_run_works_elsewhere(run_copy, ensemble, paths):
    assert np.array_equal(load(run_copy, accelerator="cpu").predict_logits(paths), ensemble.predict_logits(paths))


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, tiny_dataset):
    with pytest.raises(RunError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a nonet run"):
        load(tiny_dataset.folder)


def test_an_unfinished_run_says_so(run_copy):
    (run_copy / "ensemble.json").unlink()
    with pytest.raises(RunError, match="not fully trained") as caught:
        load(run_copy)
    assert "nonet train" in caught.value.hint


def test_missing_and_damaged_weights_are_named(run_copy):
    weights = run_copy / "members" / "vit_mini" / "fold-1" / "weights.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:50], whole[:-50], b"PK" + whole[2:]):
        weights.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"fold-1.weights\.safetensors"):
            load(run_copy, accelerator="cpu")
    weights.unlink()
    with pytest.raises(DamagedError, match=r"fold-1.weights\.safetensors"):
        load(run_copy, accelerator="cpu")


def test_weights_of_another_number_of_classes_are_refused(run_copy):
    describe(run_copy, classes=["EO", "LY", "SNE", "XX"])
    with pytest.raises(RunError, match="per class"):
        load(run_copy, accelerator="cpu")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format_version": 9' + "9" * 5000 + "}",
        '{"classes": ["A"], "members": [], "temperature": 1}',
        '{"classes": ["A"], "members": [{"architecture": "vit_mini", "fold": 0}], "temperature": 1}',
        '{"classes": ["A"], "members": [{"architecture": "vit_mini", "fold": 0, "weight": "much"}], "temperature": 1}',
        '{"classes": ["A"], "members": [{"architecture": "nothing", "fold": 0, "weight": 1}], "temperature": 1}',
    ],
)
def test_an_invalid_description_gives_no_traceback(run_copy, text):
    (run_copy / "ensemble.json").write_text(text)
    with pytest.raises(NonetError) as caught:
        load(run_copy, accelerator="cpu")
    assert caught.value.message


@pytest.mark.parametrize(
    "weights",
    [(0, 0), (-1, 2), (float("nan"), 1), ("1", 1), (True, 1), (float("inf"), 1), (1e308, 1e308), (10**400, 1)],
)
def test_weights_that_cannot_be_are_refused(run_copy, weights):
    weigh(run_copy, *weights)
    with pytest.raises(RunError, match=r"ensemble.json"):
        load(run_copy, accelerator="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["SNE", "LY", "EO"]},
        {"classes": "EO"},
        {"format_version": 2},
        {"format_version": None},
        {"titles": []},
        {"members": {}},
        {"members": [{"architecture": "vit_mini", "fold": float("inf"), "weight": 1}]},
        {"members": [{"architecture": "vit_mini", "fold": "0", "weight": 1}]},
        {"members": [{"architecture": "vit_mini", "fold": 2, "weight": 1}]},
        {"members": [{"architecture": "vit_mini", "fold": 0, "weight": 1}] * 2},
        {"calibration": {"settings": {"coverage": 2}}},
        {"calibration": {"notes": 7}},
        {"calibration": {"entropy_slope": 1e9}},
        {"temperature": "1"},
        {"temperature": True},
        {"temperature": 1e-300},
        {"rejection": {"false_alarm": 0.1, "quantiles": [1, 2]}},
        {"rejection": {"false_alarm": 0.1, "quantiles": [float("nan")] * 110}},
    ],
)
def test_a_description_that_does_not_fit_the_run_is_refused_and_set_aside_by_training(run_copy, change):
    describe(run_copy, **change)
    for verb in (lambda: load(run_copy, accelerator="cpu"), lambda: read_run(Run(run_copy))):
        with pytest.raises(RunError) as caught:
            verb()
        assert "ensemble.json" in caught.value.message
    if change == {"format_version": 2}:
        return  # of a later nonet: nothing is set aside
    set_aside_damaged_ensemble(Run(run_copy))
    assert not (run_copy / "ensemble.json").exists() and (run_copy / "ensemble.damaged.json").exists()


def test_a_description_edited_in_notepad_is_read(run_copy):
    text = (run_copy / "ensemble.json").read_text()
    (run_copy / "ensemble.json").write_text(text, encoding="utf-8-sig")  # with a mark before it
    load(run_copy, accelerator="cpu")


def test_a_description_that_was_set_aside_before_is_kept(run_copy):
    for content in ("one", "two", "three"):
        (run_copy / "ensemble.json").write_text(content)
        set_aside_damaged_ensemble(Run(run_copy))
    aside = [run_copy / f"ensemble.damaged{number}.json" for number in ("", "-2", "-3")]
    assert [path.read_text() for path in aside] == ["one", "two", "three"]


@pytest.mark.parametrize("temperature", [0, -1, float("inf")])
def test_a_temperature_that_cannot_be_is_refused(run_copy, temperature):
    describe(run_copy, temperature=temperature)
    with pytest.raises(RunError, match="temperature"):
        load(run_copy, accelerator="cpu")


def test_an_accelerator_that_is_not_there_is_an_error(tiny_run):
    with pytest.raises(RunError, match="Unknown accelerator"):
        load(tiny_run, accelerator="abacus")
