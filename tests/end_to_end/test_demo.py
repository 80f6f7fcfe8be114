"""The demo, with few cells and one epoch: its story, its report, and going on where it was."""

import json
import re

import pandas as pd
import pytest

import nonet
from helpers.issue_runs import make_doubted_run
from nonet import demonstration, demonstration_steps
from nonet.cli import training

pytestmark = pytest.mark.end_to_end


def _serve_and_look(out, monkeypatch, numbers):
    """Open the page on a finished demo as `nonet demo --serve` does; nothing is computed again."""
    uvicorn = pytest.importorskip("uvicorn")
    from fastapi.testclient import TestClient

    served = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: served.append(self.config.app))
    monkeypatch.setattr(demonstration, "NUM_TRAINING_IMAGES", numbers["num_training_images"])
    monkeypatch.setattr(demonstration, "NUM_TEST_IMAGES", numbers["num_test_images"])
    monkeypatch.setattr(nonet, "demo", lambda *arguments, **options: pytest.fail("it is finished already"))
    training.demo(out, serve=True, port=0)
    monkeypatch.undo()
    client = TestClient(served[0], base_url="http://127.0.0.1")
    assert len(client.get("/api/cases").json()) > 3, "the patients of the test set"
    assert client.get("/issues").status_code == 200
    assert demonstration.is_finished(out) is False, "one with the usual number of cells"


def test_a_demo_is_finished_once_it_says_so_and_its_results_are_there(tmp_path):
    assert not demonstration.is_finished(tmp_path)
    sizes = {"training images": demonstration.NUM_TRAINING_IMAGES, "test images": demonstration.NUM_TEST_IMAGES}
    for file in ("run/evaluation/report.html", "predictions/predictions.csv"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    for stored, expected in ((sizes | {"seed": 0}, False), (sizes | {"seed": 0, "finished": "2026"}, True)):
        (tmp_path / "demo.json").write_text(json.dumps(stored))
        assert demonstration.is_finished(tmp_path) is expected
    assert not demonstration.is_finished(tmp_path, seed=1)
    (tmp_path / "predictions" / "predictions.csv").unlink()
    assert not demonstration.is_finished(tmp_path)


def test_wrong_labels_among_the_issues_are_counted(tmp_path):
    doubted = make_doubted_run(tmp_path)
    listed = pd.read_csv(doubted.run.issues)
    truth = pd.read_csv(tmp_path / "cells" / "truth.csv")
    num_wrong = int(truth["label_error"].sum())
    said = demonstration_steps._label_issues(doubted.run, tmp_path / "cells")
    assert [int(number) for number in re.findall(r"\d+", said)] == [
        len(listed), len(truth), len(listed), num_wrong, len(listed), num_wrong,
    ]  # fmt: skip


def test_the_demo_tells_its_story_and_again_without_doing_it_again(tmp_path, monkeypatch):
    numbers = {"num_training_images": 150, "num_test_images": 40}
    settings = ["train.epochs=1", "models.image_size_px=32"]
    said = []
    first = nonet.demo(tmp_path / "demo", settings=settings, say=said.append, **numbers)
    assert first.report.is_file()
    assert 0 <= first.test_macro_f1 <= 1
    story = "\n".join(said)
    for step in range(1, 9):
        assert f"\n{step}. " in f"\n{story}"
    assert "13 classes" in story
    assert "40 images" in story
    truth = pd.read_csv(tmp_path / "demo" / "drawn" / "training" / "truth.csv")
    is_wrong = truth["true_label"] != truth["given_label"]
    assert 3 <= is_wrong.sum() <= 6, "3 % of 150 labels"
    assert "Label issues: none" in story, "one epoch does not beat chance"
    made = [*tmp_path.rglob("weights.safetensors"), *tmp_path.rglob("predictions.csv"), *tmp_path.rglob("*.png")]
    assert len([p for p in made if p.suffix == ".safetensors"]) == 9
    before = {p: p.stat().st_mtime_ns for p in made}
    second = nonet.demo(tmp_path / "demo", settings=settings, **numbers)
    assert {p: p.stat().st_mtime_ns for p in made} == before
    assert second.test_macro_f1 == first.test_macro_f1
    assert second.table.equals(first.table)
    _serve_and_look(tmp_path / "demo", monkeypatch, numbers)
    with pytest.raises(nonet.NonetError, match="started with another"):
        nonet.demo(tmp_path / "demo", settings=["train.epochs=2", "models.image_size_px=32"], **numbers)
    with pytest.raises(nonet.NonetError, match=r"\bseed\b.*0.*1"):
        nonet.demo(tmp_path / "demo", seed=1, settings=settings, **numbers)
