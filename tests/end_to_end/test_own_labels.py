"""A laboratory with five classes of its own, in folders, without patients."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import nonet

pytestmark = pytest.mark.end_to_end

COLOURS = {
    "artefact": (90, 200, 90),
    "blast?": (90, 60, 160),
    "Lympho klein": (60, 140, 220),
    "naïve": (220, 90, 90),
    "TRUE": (230, 200, 140),  # which tables like to read as a truth value
}


def draw(folder, num_images, seed):
    generator = np.random.default_rng(seed)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for i in range(num_images):
            picture = np.clip(generator.normal(colour, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / label / f"{i}.png")
    return folder


def test_five_labels_of_its_own_from_folder_to_prediction(tmp_path):
    dataset = nonet.build_dataset(f"folder:{draw(tmp_path / 'cells', 16, 0)}", tmp_path / "dataset")
    assert dataset.classes == sorted(COLOURS)
    settings = ["train.epochs=6", "models.image_size_px=32", 'models.architectures=["convnextv2_mini"]']
    settings += ["train.batch_size=8", "train.ema_decay=0.9", "denoise.enabled=false"]
    run = nonet.train("demo", dataset, out=tmp_path / "run", settings=settings, accelerator="cpu")
    table = nonet.evaluate(run, num_resamples=50)
    assert np.isfinite(table.select_dtypes("number").to_numpy()).any()
    report = (run.evaluation / "report.html").read_text(encoding="utf-8")
    assert "Lympho klein" in report
    assert "naïve" in report

    new = draw(tmp_path / "new", 4, 1)
    done = nonet.predict(run, new, out=tmp_path / "out", accelerator="cpu")
    predicted = done.table()
    assert set(predicted["label"]) <= set(COLOURS)
    truth = predicted["image"].map(lambda name: name.split("/")[-2])
    assert (predicted["label"] == truth).mean() > 0.6  # by chance 0.2; the colours are far apart
    assert list(pd.read_csv(done.csv).filter(like="p_")) == [f"p_{label}" for label in sorted(COLOURS)]
