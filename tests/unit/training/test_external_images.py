"""External images: trained on, scored by none, held out only where the recipe says so."""

import numpy as np
import pandas as pd
import pytest

from helpers.networks import member_training
from helpers.pictures import draw_pictures
from nonet.data.build import build_dataset
from nonet.data.folds import make_folds
from nonet.training.launch import train


@pytest.mark.training
def test_external_images_are_trained_on_and_not_scored(make_recipe, tmp_path):
    own = draw_pictures(tmp_path / "own", {"LY": 8, "SNE": 8})
    more = draw_pictures(tmp_path / "more", {"LY": 4, "SNE": 4}, seed=1)
    dataset = build_dataset([f"own=csv:{own}", f"more=csv:{more}"], tmp_path / "dataset", external="more")
    run = train(make_recipe("train.epochs=1"), dataset, out=tmp_path / "run", accelerator="cpu")
    assert set(pd.read_parquet(run.oof)["source"]) == {"own"}
    assert len(pd.read_parquet(run.oof).query("view_set == 'none'")) == 16


@pytest.mark.training
def test_external_images_are_held_out_where_the_recipe_says_so(make_recipe, tmp_path):
    """Each is predicted once, by members that never saw it; left alone, it is in every training set and in no table."""
    table = pd.read_csv(draw_pictures(tmp_path / "pictures", {"EO": 6, "LY": 12, "SNE": 12}))
    table["source"] = ["elsewhere" if i % 5 == 0 else "here" for i in range(len(table))]
    table["patient"] = table["source"] + table["patient"].astype(str)
    table.to_csv(tmp_path / "pictures" / "cells.csv", index=False)
    dataset = build_dataset(f"csv:{tmp_path / 'pictures' / 'cells.csv'}", tmp_path / "dataset", external="elsewhere")
    manifest = dataset.manifest.set_index("image_id")
    external = set(manifest.index[~manifest["evaluate"]])
    assert len(external) == 6
    for held_out in (False, True):
        recipe = make_recipe("train.epochs=1", f"folds.hold_out_external={str(held_out).lower()}")
        run = train(recipe, dataset, out=tmp_path / f"run-{held_out}", accelerator="cpu")
        folds = pd.read_csv(run.folds).set_index("image_id")["fold"]
        oof = pd.read_parquet(run.oof)
        assert set(oof["image_id"]) == (set(manifest.index) if held_out else set(manifest.index) - external)
        assert folds[list(external)].notna().all() == held_out
        assert (oof["fold"].to_numpy() == folds[oof["image_id"]].to_numpy()).all()
        assert not oof.duplicated(["image_id", "architecture", "view_set"]).any()


@pytest.mark.training
def test_folds_by_hand_that_leave_external_images_in_every_training_set_are_reported(make_recipe, tmp_path):
    from nonet.training.inputs import get_folds

    table = draw_pictures(tmp_path / "pictures", {"EO": 6, "LY": 12, "SNE": 12})
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset")
    dataset.manifest["evaluate"] = dataset.manifest["patient"] != dataset.manifest["patient"].iloc[0]
    folds, _ = make_folds(dataset.manifest, num_folds=2)
    folds.to_csv(dataset.folder / "folds.csv", index=False)
    num = int((~dataset.manifest["evaluate"]).sum())
    _, notes = get_folds(make_recipe("folds.hold_out_external=true"), dataset)
    assert any(note.startswith(f"{num} external images have no fold") for note in notes)
    _, notes = get_folds(make_recipe(), dataset)
    assert not any("external" in note for note in notes)


@pytest.mark.training
def test_an_image_is_external_to_the_sampler_because_it_is_not_evaluated(make_recipe, tmp_path):
    """Not because it has no fold: held out or not, it is drawn with the recipe's external_weight."""
    table = draw_pictures(tmp_path / "pictures", {"EO": 6, "LY": 12, "SNE": 12})
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset")
    dataset.manifest["evaluate"] = np.arange(len(dataset.manifest)) % 3 > 0
    recipe = make_recipe("folds.hold_out_external=true", "folds.by=image", "sampling.external_weight=0")
    training = member_training(dataset, recipe, tmp_path)
    assert (~training.data.table["evaluate"].to_numpy()[training.data.held_out]).any()
    drawn = np.concatenate(training._epoch_batches(0))
    assert training.data.table["evaluate"].to_numpy()[drawn].all()
