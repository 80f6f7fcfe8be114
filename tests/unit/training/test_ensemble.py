"""The end of a training and `nonet calibrate`: what ensemble.json says, and what is left alone."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from helpers.run_folders import ARCHITECTURES, make_run
from helpers.sealing import seal
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.calibration.calibrate import calibrate
from nonet.calibration.calibrator import Calibration
from nonet.errors import RecipeError, RunError
from nonet.recipe import load_recipe
from nonet.training.ensemble import finish, trained_priors


@pytest.fixture
def run(tmp_path):
    """A run folder without a calibration: three architectures, 40 patients."""
    folder = make_run(tmp_path / "run", num_images=900)
    names = ", ".join(f'"{name}"' for name in ARCHITECTURES)
    (folder / "recipe.toml").write_text(f'name = "old"\n[models]\narchitectures = [{names}]\n')
    members = [{"architecture": a, "fold": k, "weight": 1.0} for k in range(3) for a in ARCHITECTURES]
    classes = sorted(pd.read_parquet(folder / "manifest.parquet")["label"].unique())
    priors = json.loads((folder / "ensemble.json").read_text())["trained_priors"]
    description = {"format_version": 1, "classes": classes, "members": members, "trained_priors": priors}
    (folder / "ensemble.json").write_text(json.dumps(description))
    oof = pd.read_parquet(folder / "oof.parquet")
    oof.assign(ood_score=0.0, nucleus=True).to_parquet(folder / "oof.parquet")
    return seal(folder)


def described(run):
    return json.loads(run.ensemble.read_text())


def weigh(run, weights):
    stored = described(run)
    members = [m | {"weight": weights.get(m["architecture"], 0.0)} for m in stored["members"]]
    run.ensemble.write_text(json.dumps(stored | {"members": members}))


def test_a_run_is_calibrated_and_the_rest_of_its_file_is_unchanged(run):
    before = described(run)
    fitted = calibrate(run)
    after = described(run)
    for key in ("classes", "members", "trained_priors"):
        assert after[key] == before[key]
    assert after["temperature"] == fitted.temperature != 1
    assert sum(after["class_priors"].values()) == pytest.approx(1)
    again = Calibration.from_ensemble(EnsembleFile.read(run))
    assert again.thresholds == pytest.approx(fitted.thresholds, rel=0, abs=0) and again.notes == fitted.notes
    assert "900 images of 40 patients" in fitted.notes[0]


def test_it_is_fitted_on_evaluated_images_averaged_by_the_members_weights(run):
    """The mean probability tells what the logits were."""
    weigh(run, {ARCHITECTURES[0]: 3.0, ARCHITECTURES[1]: 1.0})
    fitted = calibrate(run, settings=["calibrate.temperature=false"])
    oof = pd.read_parquet(run.oof)
    classes = described(run)["classes"]
    columns = [f"logit_{code}" for code in classes]
    of = {
        name: rows.set_index("image_id").sort_index()[columns].to_numpy(dtype=float)
        for name, rows in oof[oof["view_set"] == "dihedral"].groupby("architecture")
    }
    expected = softmax(0.75 * of[ARCHITECTURES[0]] + 0.25 * of[ARCHITECTURES[1]], axis=-1).mean(0)
    assert fitted.class_priors == pytest.approx(expected)


def test_what_an_earlier_call_changed_stays_changed(run):
    calibrate(run, settings=["calibrate.coverage=0.8", "calibrate.min_confidence=0.3"])
    calibrate(run, settings=["calibrate.min_confidence=0.4"])
    settings = described(run)["calibration"]["settings"]
    assert (settings["coverage"], settings["min_confidence"]) == (0.8, 0.4)
    assert calibrate(run).min_confidence == 0.4


def test_settings_are_of_calibration_alone(run):
    stored = calibrate(run, settings=["calibrate.coverage=0.8", "calibrate.min_confidence=0.3"])
    assert (stored.coverage, stored.min_confidence) == (0.8, 0.3)
    assert described(run)["calibration"]["settings"]["coverage"] == 0.8
    with pytest.raises(RecipeError, match=r"train\.epochs=5"):
        calibrate(run, settings=["train.epochs=5"])
    with pytest.raises(RecipeError, match="coverage"):
        calibrate(run, settings=["calibrate.coverage=90"])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"classes": ["A"]}'])
def test_a_damaged_description_gives_no_traceback(run, text):
    run.ensemble.write_text(text)
    with pytest.raises(RunError, match=r"ensemble\.json (is damaged|lacks|cannot be used)"):
        calibrate(run)


def test_a_run_not_trained_to_the_end_is_refused(run):
    run.ensemble.unlink()
    with pytest.raises(RunError, match="not fully trained"):
        calibrate(run)


def test_unknown_patients_and_folds_by_image_are_said(run):
    oof = pd.read_parquet(run.oof)
    oof.assign(patient=None).to_parquet(run.oof)
    run.recipe.write_text(run.recipe.read_text() + '[folds]\nby = "image"\n')
    seal(run)
    notes = " ".join(calibrate(run).notes)
    assert "900 of 900 images" in notes
    assert "by image" in notes


def test_training_calibrates_and_leaves_weights_that_were_given_since(tiny_run, make_recipe, tmp_path):
    description = described(tiny_run)
    assert "too few" in " ".join(description["calibration"]["notes"])
    assert description["temperature"] == 1.0 and "class_priors" not in description
    assert description["titles"]
    copied = Run(shutil.copytree(tiny_run.folder, tmp_path / "copy"))
    copied.ensemble.write_text(json.dumps(description | {"temperature": 3.0}))
    recipe = make_recipe()
    finish(copied, recipe, description["classes"], {}, copied.members(recipe.models.architectures, 2))
    assert described(copied)["temperature"] == 3.0


def test_the_shares_that_training_drew_are_of_all_trained_images():
    """Of two folds, each trains on the other one and on what has no fold; nothing of unknown class counts."""
    manifest = pd.DataFrame({"image_id": list("abcdef"), "label": ["A", "B", "A", "B", "B", None], "evaluate": True})
    folds = pd.DataFrame({"image_id": list("abcdef"), "fold": [0, 0, 1, 1, np.nan, 1]})
    recipe = load_recipe("plain")
    shares = trained_priors(manifest, folds, ["A", "B"], recipe.sampling)
    assert shares == pytest.approx([1 / 3, 2 / 3])


def test_external_images_weigh_in_these_shares_as_they_are_drawn_held_out_or_not():
    """Images of one class each: a, b, d are evaluated, c and e are external and drawn half as often."""
    manifest = pd.DataFrame({"image_id": list("abcde"), "label": list("ABBBA"), "evaluate": [1, 1, 0, 1, 0]})
    manifest["evaluate"] = manifest["evaluate"].astype(bool)
    sampling = load_recipe("plain", ["sampling.external_weight=0.5"]).sampling
    for fold, expected in (
        # Fold 0 trains on c, d, e: A 0.5 of 2; fold 1 on a, b, c, e: A 1.5 of 3.
        ([0, 0, np.nan, 1, np.nan], (0.5 / 2 + 1.5 / 3) / 2),
        # Held out, too: fold 0 trains on d, e: A 0.5 of 1.5; fold 1 on a, b, c: A 1 of 2.5.
        ([0, 0, 0, 1, 1], (0.5 / 1.5 + 1 / 2.5) / 2),
    ):
        folds = pd.DataFrame({"image_id": list("abcde"), "fold": fold})
        shares = trained_priors(manifest, folds, ["A", "B"], sampling)
        assert shares == pytest.approx([expected, 1 - expected])
