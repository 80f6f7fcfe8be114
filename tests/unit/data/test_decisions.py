"""Decisions from review: applied before copies are judged, recorded, and refused where they make no sense."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nonet.data.build import build_dataset
from nonet.errors import DataError

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def build(tmp_path):
    """A function of the text of a file of decisions, which builds two sources of a few cells."""
    for seed, name in enumerate(("a/BA/1.png", "a/BA/2.png", "a/EO/1.png", "a/EO/3.png", "b/EO/1.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)

    def made(text=None):
        file = tmp_path / "decisions.csv"
        file.write_text(text or "")
        sources = [f"folder:{tmp_path / 'a'}", f"folder:{tmp_path / 'b'}"]
        return build_dataset(sources, tmp_path / "out", decisions=file if text else None)

    return made


def test_decisions_are_applied_and_recorded(build):
    dataset = build(
        "image_id,decision,label,note\na/BA/1.png,drop,,smudge\na/BA/2.png,relabel,SNE,\nb/EO/1.png,keep,EO,\n"
    )
    assert dict(zip(dataset.manifest["image_id"], dataset.manifest["label"])) == {
        "a/BA/2.png": "SNE",
        "a/EO/1.png": "EO",
        "a/EO/3.png": "EO",
        "b/EO/1.png": "EO",
    }
    assert list(dataset.excluded["reason"]) == ["dropped by decision: smudge"]
    decided = pd.read_csv(dataset.folder / "decided.csv", keep_default_na=False)
    assert decided["label_before"].tolist() == ["BA", "BA", "EO"] and decided["label"].tolist() == ["", "SNE", ""]
    assert json.loads((dataset.folder / "dataset.json").read_text())["decisions"]["num_images"] == 3
    assert "1 kept, 1 dropped, 1 relabelled" in dataset.summary()
    build()
    assert not (dataset.folder / "decided.csv").exists()


def test_dropping_one_of_two_conflicting_copies_keeps_the_other(build, tmp_path):
    build()
    (tmp_path / "a/EO/1.png").write_bytes((tmp_path / "a/BA/1.png").read_bytes())
    assert not set(build().manifest["path"]) & {"BA/1.png"}
    manifest = build("path,decision\nBA/1.png,drop\n").manifest.set_index("image_id")
    assert manifest.loc["a/EO/1.png", "label"] == "EO"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_id,decision\na/BA/9.png,drop\n", r'line 2: no source has an image "a/BA/9.png"'),
        ("path,decision\nBA/9.png,drop\n", 'no source has a path "BA/9.png"'),
        ("path,decision\nEO/1.png,drop\n", r"2 sources have a path(.|\n)*image_id"),
        ("path,decision\nBA/1.png,burn\n", r'"burn" is not a decision(.|\n)*keep, drop, relabel'),
        ("path,decision,label\nBA/1.png,relabel,XX\n", r'label "XX" is unknown(.|\n)*Labels: BA'),
        ("path,decision,label\nBA/1.png,relabel,\n", "the label is missing"),
        ("path,decision,label\nBA/1.png,keep,EO\n", r"to be kept as EO, but is BA(.|\n)*relabel"),
        ("path,decision\nBA/1.png,drop\nBA/1.png,keep\n", "line 3: a/BA/1.png has two decisions, drop and keep"),
        ("image,verdict\na,b\n", "has columns image, verdict"),
    ],
)
def test_decisions_that_make_no_sense_are_explained(build, tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        build(text)
    assert not (tmp_path / "out").exists()


def test_missing_file_of_decisions_is_named(build, tmp_path):
    build()
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        build_dataset(f"folder:{tmp_path / 'a'}", tmp_path / "new", decisions=tmp_path / "nowhere.csv")


def test_rows_without_a_decision_are_left_as_they_are_and_counted(build):
    rows = ["rank,image_id,given,decision,label,note", "1,a/BA/1.png,BA,relabel,SNE,", "2,a/BA/2.png,BA,,,later"]
    dataset = build("\n".join([*rows, "3,a/EO/1.png,EO,,,"]))
    assert dict(zip(dataset.manifest["image_id"], dataset.manifest["label"])) == {
        "a/BA/1.png": "SNE",
        "a/BA/2.png": "BA",
        "a/EO/1.png": "EO",
        "a/EO/3.png": "EO",
        "b/EO/1.png": "EO",
    }
    assert any(note.startswith("2 rows") for note in dataset.notes)
    assert len(pd.read_csv(dataset.folder / "decided.csv")) == 1


def test_a_label_without_a_decision_is_not_guessed_at(build):
    with pytest.raises(DataError, match=r"line 2.*SNE"):
        build("image_id,decision,label\na/BA/1.png,,SNE\n")
