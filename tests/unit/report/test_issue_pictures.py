"""Pictures of label issues in the report: of the cells and of those that look like them, where they can be read."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.run_folders import make_run
from helpers.sealing import reseal_json, seal
from nonet.artifacts.run import Run, write_json
from nonet.page.pictures import embedded
from nonet.report.evaluate import evaluate
from nonet.report.report import MOST_ISSUES

TAG = re.compile(r'<img class="(\w+)" src="data:image/webp;base64,([^"]+)" alt="([^"]+)">')


def give_dataset(run, folder):
    """Make the dataset of a run: an image for each row, whose colour is its place in the manifest."""
    manifest = pd.read_parquet(run.manifest).assign(note="")
    roots = {source: str(folder / source) for source in manifest["source"].unique()}
    for place, row in enumerate(manifest.to_dict("records")):
        path = folder / row["source"] / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (150, 120), (place % 256, 90, 160)).save(path)
    manifest.to_parquet(folder / "manifest.parquet")
    (folder / "excluded.csv").write_text("path,source,label,reason\n")
    about = {"format_version": 1, "classes": sorted(manifest["label"].unique()), "roots": roots}
    write_json(folder / "dataset.json", about | {"kinds": dict.fromkeys(roots, "csv"), "notes": []})
    reseal_json(run.provenance, dataset=str(folder))
    return manifest


def add_features(run):
    rng = np.random.default_rng(0)
    oof = pd.read_parquet(run.oof).drop_duplicates("image_id")
    for fold, rows in oof.groupby("fold"):
        arrays = {"features": rng.normal(size=(len(rows), 5)), "mean": np.zeros(5), "axes": np.eye(5)}
        np.savez(run.member("swinv2_tiny", fold).features, image_id=rows["image_id"].to_numpy(dtype=str), **arrays)
    seal(run.folder)


@pytest.fixture
def run(tmp_path):
    return Run(make_run(tmp_path / "run", num_images=200, num_patients=12, num_external=0))


def section_of(run):
    evaluate(run, num_resamples=20)
    page = (run.evaluation / "report.html").read_text(encoding="utf-8")
    return page[page.index('<section id="issues">') :].split("</section>")[0]


def test_each_listed_issue_has_its_picture_and_those_of_its_neighbours(run, tmp_path):
    manifest = give_dataset(run, tmp_path / "dataset").set_index("image_id")
    add_features(run)
    section = section_of(run)
    issues = pd.read_csv(run.issues).head(MOST_ISSUES)
    tags = TAG.findall(section)
    large = [(data, words) for size, data, words in tags if size == "large"]
    assert [words for _, words in large] == [f"{i}, labelled {g}" for i, g in zip(issues["image_id"], issues["given"])]
    for (data, _), image_id in zip(large, issues["image_id"]):
        picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        assert max(picture.size) == 128
        assert abs(picture.getpixel((60, 50))[0] - manifest.index.get_loc(image_id) % 256) < 6
    neighbours = issues.filter(like="neighbour")
    assert len(tags) - len(large) == neighbours.notna().sum().sum() > 20


def test_an_image_that_cannot_be_read_gets_words(run, tmp_path):
    manifest = give_dataset(run, tmp_path / "dataset").set_index("image_id")
    evaluate(run, num_resamples=20)
    first = pd.read_csv(run.issues)["image_id"][0]
    path = tmp_path / "dataset" / manifest.loc[first, "source"] / manifest.loc[first, "path"]
    path.write_bytes(b"cut")
    section = section_of(run)
    assert section.count("cannot be read") == 1
    assert len(TAG.findall(section)) == min(MOST_ISSUES, len(pd.read_csv(run.issues))) - 1


def test_without_its_dataset_the_report_says_why_no_cell_is_shown(run, tmp_path):
    give_dataset(run, tmp_path / "dataset")
    (tmp_path / "dataset").rename(tmp_path / "moved")
    section = section_of(run)
    assert "<img" not in section
    assert f"is not at {tmp_path / 'dataset'}" in section


def test_pictures_of_noise_are_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, size=(500, 400, 3), dtype=np.uint8)
    assert len(embedded(noise, 128)) < 24_000
    assert len(embedded(noise[:20, :30], 128)) < 4_000, "a small image is not enlarged"
