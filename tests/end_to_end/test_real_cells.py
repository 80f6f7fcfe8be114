"""A tiny study of real photographs, where the project's data lies beside the checkout."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import nonet

pytestmark = pytest.mark.end_to_end

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not (DATA / "manifest.csv").is_file(), reason="no real cells beside the checkout")
def test_photographs_from_table_to_prediction(tmp_path):
    table = pd.read_csv(DATA / "manifest.csv", dtype=str)
    table = table[(table["source"] == "jhu") & table["label"].isin(["BL", "LY", "SNE"])]
    few = table.groupby("label").sample(20, random_state=0)
    few = few.assign(path=few["path"].str.replace("jhu/", "", n=1))
    dataset = _build(few, tmp_path)
    settings = ["train.epochs=1", "models.image_size_px=32", 'models.architectures=["vit_mini"]', "folds.num_folds=2"]
    run = nonet.train("demo", dataset, out=tmp_path / "run", settings=settings, accelerator="cpu")
    nonet.evaluate(run, num_resamples=20)
    paths = [DATA / "jhu" / path for path in few["path"].head(5)]
    done = nonet.predict(run, paths, out=tmp_path / "out", accelerator="cpu")
    assert done.num_unreadable == 0
    assert done.table()["label"].isin(["BL", "LY", "SNE"]).all()


def _build(table, folder):
    """Copy the few photographs: a table's paths may not leave its folder."""
    for path in table["path"]:
        (folder / "few" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / "jhu" / path, folder / "few" / path)
    table.to_csv(folder / "few" / "cells.csv", index=False)
    return nonet.build_dataset(f"csv:{folder / 'few' / 'cells.csv'}", folder / "dataset")
