"""Build, check, fold, train, evaluate and predict on drawn cells, by the command line as a user would."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nonet
from helpers.sealing import reseal_json

pytestmark = pytest.mark.end_to_end

ARCHITECTURES = ("swinv2_mini", "convnextv2_mini", "vit_mini")


def test_build_says_what_is_in_the_dataset(study):
    given = pd.read_csv(study.cells / "images.csv")
    dataset = nonet.Dataset.open(study.dataset)
    assert len(dataset.manifest) == len(given)
    assert f"{len(given)} images, {given['label'].nunique()} classes, 12 patients" in study.built
    for label, count in given["label"].value_counts().items():
        assert any(line.split()[0] == label and f" {count} " in line for line in study.built.splitlines() if line)


def test_check_finds_what_was_lost_or_changed(study, nonet_command, tmp_path):
    shutil.copytree(study.cells, tmp_path / "cells")
    dataset = nonet.build_dataset(f"csv:{tmp_path / 'cells' / 'images.csv'}", tmp_path / "dataset")
    status, out, _ = nonet_command("data", "check", dataset.folder)
    assert status == 0
    assert f"all {len(dataset.manifest)} images" in out
    lost, changed = dataset.paths()[:2]
    lost.unlink()
    shutil.copyfile(dataset.paths()[2], changed)
    status, out, err = nonet_command("data", "check", dataset.folder)
    assert status == 1
    assert "error" not in err
    assert f"{lost}: missing" in out
    assert f"{changed}: changed" in out
    assert "2 of" in out


def test_folds_are_written_once_and_by_patient(study, nonet_command):
    folds = study.folds
    assert "3 folds by patient" in study.folded
    patients = nonet.Dataset.open(study.dataset).manifest.set_index("image_id")["patient"]
    assert pd.DataFrame({"fold": folds, "patient": patients}).groupby("patient")["fold"].nunique().eq(1).all()
    before = (study.dataset / "folds.csv").read_bytes()
    status, _, err = nonet_command("data", "folds", study.dataset)
    assert status == 2
    assert "folds.csv" in err
    assert (study.dataset / "folds.csv").read_bytes() == before


def test_training_obeys_the_edited_folds(study):
    oof = pd.read_parquet(study.run / "oof.parquet")
    held_out = oof.groupby("image_id")["fold"].agg(["nunique", "first"])
    assert held_out["nunique"].eq(1).all()
    assert held_out["first"].to_dict() == study.folds.to_dict()


def test_the_run_folder_is_complete(study):
    assert "is trained" in study.trained
    for name in ("recipe.toml", "provenance.json", "manifest.parquet", "folds.csv", "oof.parquet", "ensemble.json"):
        assert (study.run / name).is_file()
    for architecture in ARCHITECTURES:
        for fold in range(3):
            member = study.run / "members" / architecture / f"fold-{fold}"
            assert sorted(p.name for p in member.iterdir()) == [
                "DONE",
                "features.npz",
                "history.jsonl",
                "ood.npz",
                "oof.parquet",
                "weights.safetensors",
            ]
    assert nonet.load_recipe(study.run / "recipe.toml").train.epochs == 1


def test_evaluate_prints_the_table_and_writes_the_report(study):
    table = pd.read_csv(study.run / "evaluation" / "table.csv")
    for title in ("SwinV2-Mini", "ConvNeXtV2-Mini", "ViT-Mini", "nsemble"):
        assert title in study.evaluated
    assert len(table) >= 4
    report = study.run / "evaluation" / "report.html"
    assert str(report) in study.evaluated
    assert report.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")


def test_prediction_sees_images_as_training_did(study):
    """The logits that training kept of held-out images are those of the ensemble's members for the files."""
    ensemble, dataset = nonet.load(study.run, accelerator="cpu"), nonet.Dataset.open(study.dataset)
    oof = pd.read_parquet(study.run / "oof.parquet")
    oof = oof[oof["view_set"] == "dihedral"].set_index(["architecture", "image_id"])
    columns = [f"logit_{code}" for code in ensemble.classes]
    chosen = dataset.manifest["image_id"].iloc[::5].tolist()
    prepared = [ensemble.prepare(dataset.image_path(image_id)) for image_id in chosen]
    stacked = {crop: np.stack([one[crop] for one in prepared]) for crop in ensemble.crops}
    from nonet.models.views import dihedral_views

    logits = ensemble.member_logits(stacked, dihedral_views())
    assert len(ensemble.members) == 9
    assert logits.std(axis=1).max() > 0.01  # else any image's logits would do
    for i, member in enumerate(ensemble.members):
        architecture, fold = member.name.split("/fold-")
        for k, image_id in enumerate(chosen):
            is_held_out = study.folds[image_id] == int(fold)
            kept = oof.loc[(architecture, image_id), columns].to_numpy(dtype=float)
            assert np.allclose(kept, logits[i, k], atol=1e-4) == is_held_out


def test_predict_takes_files_folders_globs_tables_and_datasets(study, nonet_command, tmp_path):
    images = study.cells / "images"
    files = sorted(images.iterdir())
    forms = {
        "files": files[:3],
        "folder": [images],
        "glob": [f"{images}/cell_0000*.png"],
        "table": [study.cells / "images.csv"],
        "dataset": [study.dataset],
    }
    tables = {}
    status, out, err = nonet_command("predict", study.run, images, "--views", 1, "--out", tmp_path / "cli")
    assert status == 0, err
    assert "predictions.csv" in out
    tables["cli"] = pd.read_csv(tmp_path / "cli" / "predictions.csv", keep_default_na=False)
    ensemble = nonet.load(study.run, accelerator="cpu")
    for form, given in forms.items():
        tables[form] = nonet.predict(ensemble, given, out=tmp_path / form, views=1).table()
    assert {form: len(table) for form, table in tables.items()} == {
        "cli": len(files),
        "files": 3,
        "folder": len(files),
        "glob": len(list(images.glob("cell_0000*.png"))),
        "table": len(files),
        "dataset": len(files),
    }
    by_file = {
        form: table.set_index(table["image"].map(lambda name: Path(name).name)) for form, table in tables.items()
    }
    reference = by_file["folder"]
    columns = [f"p_{code}" for code in ensemble.classes]
    for table in by_file.values():
        assert table["label"].equals(reference["label"].reindex(table.index))
        assert np.allclose(table[columns].astype(float), reference[columns].reindex(table.index), atol=1e-5)
    assert np.allclose(reference[columns].sum(axis=1), 1, atol=1e-4)


def test_a_copied_run_predicts_and_evaluates_without_its_dataset(study, tmp_path):
    copied = shutil.copytree(study.run, tmp_path / "elsewhere")
    shutil.rmtree(copied / "evaluation")
    reseal_json(copied / "provenance.json", dataset="/gone")
    table = nonet.evaluate(copied, num_resamples=20)
    assert len(table) >= 4
    images = sorted((study.cells / "images").iterdir())[:5]
    here = nonet.load(study.run, accelerator="cpu").predict_logits(images)
    assert np.allclose(nonet.load(copied, accelerator="cpu").predict_logits(images), here, atol=1e-6)


def test_training_again_changes_nothing(study):
    before = {p: p.stat().st_mtime_ns for p in study.run.rglob("weights.safetensors")}
    settings = ["train.epochs=1", "models.image_size_px=32", "train.batch_size=16"]
    nonet.train("demo", study.dataset, out=study.run, settings=settings)
    assert {p: p.stat().st_mtime_ns for p in study.run.rglob("weights.safetensors")} == before
