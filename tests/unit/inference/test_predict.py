"""`predict`: files in, predictions.csv out; killed, continued, never mixed, without holding the images."""

import json
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from PIL import Image
from scipy.special import softmax

from helpers.processes import DIES_BEFORE_RENAMING
from helpers.sealing import seal
from nonet.calibration.priors import estimate_priors
from nonet.errors import DataError, RunError
from nonet.inference.folder import CHUNK_SIZE
from nonet.inference.load import load
from nonet.inference.predict import predict
from nonet.models.network import make_classifier
from nonet.models.views import no_views
from nonet.recipe import load_recipe


@pytest.fixture(scope="module")
def run(random_run):
    return random_run


@pytest.fixture(scope="module")
def ensemble(run):
    return load(run, accelerator="cpu")


@pytest.fixture(scope="module")
def cells(tiny_dataset, tmp_path_factory):
    """200 images, of 30 different contents: three chunks and a bit."""
    folder = tmp_path_factory.mktemp("cells")
    paths = tiny_dataset.paths()
    for i in range(200):
        shutil.copyfile(paths[i % len(paths)], folder / f"{i:03d}.png")
    return folder


def test_the_table_says_what_the_ensemble_says(ensemble, cells, tmp_path):
    done = predict(ensemble, cells, out=tmp_path / "out")
    table = done.table()
    paths = sorted(cells.glob("*.png"))
    assert table["image"].tolist() == [str(path) for path in paths]
    assert table["label"].tolist() == ensemble.predict(paths)
    proba = table[[f"p_{code}" for code in ensemble.classes]].to_numpy()
    assert np.allclose(proba, ensemble.predict_proba(paths), atol=1e-5)
    assert np.allclose(table["confidence"], proba.max(1))
    logits = pd.read_parquet(done.folder / "logits.parquet")
    assert list(logits) == ["image", "path", *[f"logit_{code}" for code in ensemble.classes]]
    assert np.allclose(logits.iloc[:, 2:], ensemble.predict_logits(paths), atol=1e-4)
    assert (done.num_images, done.num_unreadable) == (200, 0)
    assert "200 images" in str(done)
    assert not (table["error"] != "").any()


def test_doubtful_cells_are_unidentified_and_keep_their_best_class(run, ensemble, cells, tmp_path):
    paths = sorted(cells.glob("*.png"))[:70]
    limit = float(np.median(ensemble.predict_proba(paths).max(1)))
    copied = shutil.copytree(run.folder, tmp_path / "run")
    description = json.loads((copied / "ensemble.json").read_text())
    thresholds = dict.fromkeys(ensemble.classes, 0.3)
    calibration = {"min_confidence": limit, "coverage": 0.9, "thresholds": thresholds}
    (copied / "ensemble.json").write_text(json.dumps(description | {"calibration": calibration}))
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:60])
    done = predict(copied, [*paths, tmp_path / "cut.png"], out=tmp_path / "out", accelerator="cpu")
    table = done.table()
    assert list(table)[:9] == ["image", "case", "label", "best", "confidence", "reason", "set", "spread", "agreement"]
    readable = table[table["error"] == ""]
    assert readable["best"].tolist() == ensemble.predict(paths)
    doubtful = readable["reason"] == "doubtful"
    assert (doubtful == (readable["confidence"] < limit)).mean() > 0.95  # six places are written
    assert (readable["label"] == readable["best"].where(~doubtful, "unidentified")).all()
    assert (readable["set"].str.split("|").str[0] == readable["best"]).all()
    assert table.iloc[-1][["label", "best", "reason", "set"]].tolist() == ["", "", "unreadable", ""]
    assert (done.num_unreadable, done.num_unidentified) == (1, doubtful.sum())
    assert 20 < doubtful.sum() < 50
    assert f"{doubtful.sum()} unidentified" in str(done)
    again = predict(copied, [*paths, tmp_path / "cut.png"], out=tmp_path / "out", accelerator="cpu")
    assert again == done


def test_an_image_that_is_read_in_an_unusual_way_has_a_note(ensemble, cells, tmp_path):
    plain = min(cells.glob("*.png"))
    with Image.open(plain) as image:
        hidden = np.dstack([np.asarray(image.convert("RGB")), np.zeros(image.size[::-1], np.uint8)])
    Image.fromarray(hidden).save(tmp_path / "hidden.png")
    table = predict(ensemble, [plain, tmp_path / "hidden.png"], out=tmp_path / "out").table()
    assert table["note"].str.split(":").str[0].tolist() == ["", "alpha ignored"]
    assert table.loc[0, "label"] == table.loc[1, "label"]


def test_an_output_that_is_not_a_number_is_an_error_of_that_image_alone(run, cells, tmp_path):
    ensemble = load(run, accelerator="cpu")
    outputs = ensemble.member_outputs

    def overflowing(prepared, views):
        logits, scores = outputs(prepared, views)
        logits[0, 1] = np.inf
        return logits, scores

    ensemble.member_outputs = overflowing
    table = predict(ensemble, sorted(cells.glob("*.png"))[:3], out=tmp_path / "out").table()
    assert table["label"].eq("").tolist() == [False, True, False]
    assert table["error"].str.contains("not a finite number").tolist() == [False, True, False]
    assert table.loc[1, "spread":"ood_percentile"].isna().tolist()[:2] == [True, True]


def test_adapting_to_the_mix_of_the_sample_is_done_on_request_and_marked(run, ensemble, cells, tmp_path, caplog):
    copied = shutil.copytree(run.folder, tmp_path / "run")
    description = json.loads((copied / "ensemble.json").read_text())
    with pytest.raises(RunError, match="is not calibrated"):
        predict(copied, cells, out=tmp_path / "out", adapt_priors=True, accelerator="cpu")
    paths = sorted(cells.glob("*.png"))[:70]
    proba = ensemble.predict_proba(paths)
    start = proba.mean(0) * [2.0, 1.0, 0.5]
    start /= start.sum()
    calibrated = {"class_priors": dict(zip(ensemble.classes, start)), "calibration": {"min_confidence": 0.2}}
    (copied / "ensemble.json").write_text(json.dumps(description | calibrated))
    with pytest.raises(DataError, match=r"\b50\b.*\b49\b"):
        predict(copied, paths[:49], out=tmp_path / "out", adapt_priors=True, accelerator="cpu")
    plain = predict(copied, paths, out=tmp_path / "plain", accelerator="cpu").table()
    assert "priors" not in plain
    done = predict(copied, paths, out=tmp_path / "out", adapt_priors=True, accelerator="cpu")
    table, plan = done.table(), json.loads((tmp_path / "out" / "plan.json").read_text())
    priors = estimate_priors(proba, start)
    assert list(plan["class_priors"].values()) == pytest.approx(priors, abs=1e-3)
    assert plan["note"] and plan["note"] in caplog.text
    assert set(table["priors"]) == {"estimated from these images"}
    moved = proba * priors / start
    moved /= moved.sum(1, keepdims=True)
    assert table.filter(like="p_").to_numpy() == pytest.approx(moved, abs=1e-3)
    assert (table["best"] == [ensemble.classes[k] for k in moved.argmax(1)]).mean() > 0.95
    assert np.abs(moved - proba).max() > 0.02
    logits = pd.read_parquet(tmp_path / "out" / "logits.parquet").iloc[:, 2:].to_numpy()
    assert softmax(logits, axis=-1) == pytest.approx(moved, abs=1e-3)


def test_spread_and_agreement_are_between_members(ensemble, cells, tmp_path):
    table = predict(ensemble, cells / "000.png", out=tmp_path / "out", views=1).table()
    prepared = {size: np.stack([image]) for size, image in ensemble.prepare(cells / "000.png").items()}
    logits = ensemble.member_logits(prepared, no_views())[:, 0]
    proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    k = ensemble.classes.index(table["label"][0])
    assert table["spread"][0] == pytest.approx(proba[:, k].std(), abs=1e-5)
    assert table["agreement"][0] == pytest.approx((logits.argmax(1) == k).mean())


@pytest.mark.slow
def test_seventy_at_once_are_the_same_as_one_by_one(ensemble, cells, tmp_path):
    paths = sorted(cells.glob("*.png"))[:70]
    together = predict(ensemble, paths, out=tmp_path / "together").table()
    backwards = predict(ensemble, paths[::-1], out=tmp_path / "backwards").table()[::-1].reset_index(drop=True)
    alone = [predict(ensemble, path, out=tmp_path / f"alone-{i}").table() for i, path in enumerate(paths[::9])]
    pd.testing.assert_frame_equal(backwards, together, atol=1e-5, rtol=0)
    one_by_one = pd.concat(alone, ignore_index=True)
    pd.testing.assert_frame_equal(one_by_one, together[::9].reset_index(drop=True), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_worker_processes_change_nothing(ensemble, cells, tmp_path):
    paths = [str(path) for path in cells.glob("*.png")]
    more = tmp_path / "more"
    more.mkdir()
    for i in range(60):
        shutil.copyfile(paths[i], more / f"{i}.png")
    here = predict(ensemble, [cells, more], out=tmp_path / "here", views=1, num_workers=1)
    there = predict(ensemble, [cells, more], out=tmp_path / "there", views=1, num_workers=2)
    assert here.num_images == 260  # from 256 on there are workers
    assert here.csv.read_bytes() == there.csv.read_bytes()


def test_unreadable_images_are_rows_that_say_so(ensemble, cells, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = (cells / "000.png").read_bytes()
    contents = {"a.png": whole, "b.png": whole[:300], "c.png": b"", "d.png": b"not an image", "e.png": whole}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    Image.new("RGB", (1, 1), "red").save(folder / "f.png")
    Image.new("RGB", (200, 1), "red").save(folder / "g.png")
    (folder / "list.csv").write_text("path\na.png\nb.png\nnowhere.png\n")
    done = predict(ensemble, folder, out=tmp_path / "out")
    table = done.table().set_index(pd.Index([Path(name).name for name in done.table()["image"]]))
    assert done.num_unreadable == 3
    assert "3 of them unreadable" in str(done)
    assert table.index[table["error"] != ""].tolist() == ["b.png", "c.png", "d.png"]
    for name in "bcd":
        row = table.loc[f"{name}.png"]
        assert row["label"] == ""
        assert row[["confidence", "spread", "agreement", "p_LY"]].isna().all()
        assert f"{name}.png" in row["error"]
    readable = table.loc[["a.png", "e.png", "f.png", "g.png"]]
    assert readable["label"].isin(ensemble.classes).all()
    assert readable["p_LY"].dtype == float
    assert readable.loc["a.png", "p_LY"] == pytest.approx(readable.loc["e.png", "p_LY"], abs=1e-5)
    missing = predict(ensemble, folder / "list.csv", out=tmp_path / "listed").table()
    assert missing["error"].ne("").tolist() == [False, True, True]
    assert "missing" in missing["error"][2]


def test_a_folder_of_unreadable_images_alone_is_a_table_too(ensemble, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    done = predict(ensemble, tmp_path / "a.png", out=tmp_path / "out")
    assert done.num_unreadable == done.num_images == 1
    assert done.table()["label"].tolist() == [""]


KILLED_AT = (
    DIES_BEFORE_RENAMING
    + """
run, cells, out, _ = sys.argv[1:]
nonet.predict(run, cells, out=out, views=8, accelerator="cpu")
"""
)


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_at_any_moment_the_same_call_resumes(run, cells, tmp_path):
    """Two kills, each just before a file gets its name: a part, the joined table."""
    out = tmp_path / "out"
    first_part = out / "parts" / "000000.parquet"
    written = None
    for last in ("000002.parquet", "predictions.csv"):
        command = [sys.executable, "-c", KILLED_AT, str(run), str(cells), str(out), last]
        killed = subprocess.run(command, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / "predictions.csv").exists()
        assert (out / "logits.parquet").exists() == (last == "predictions.csv")
        for part in (out / "parts").glob("[0-9]*.parquet"):
            assert len(pd.read_parquet(part)) > 0
        written = written or first_part.stat().st_mtime_ns
        assert first_part.stat().st_mtime_ns == written  # what was done is not done again
    done = predict(run, cells, out=out, views=8, accelerator="cpu")
    whole = predict(run, cells, out=tmp_path / "whole", views=8, accelerator="cpu")
    pd.testing.assert_frame_equal(done.table(), whole.table(), atol=1e-5, rtol=0)
    visible = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    assert visible == ["confusions.csv", "logits.parquet", "plan.json", "predictions.csv"]
    assert not list(out.glob(".nonet-tmp.*"))


def half_done(ensemble, cells, out, monkeypatch):
    """Stop a prediction after two chunks, by an error in the third."""
    member_outputs, calls = type(ensemble).member_outputs, []

    def fail_third(self, prepared, views):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return member_outputs(self, prepared, views)

    with monkeypatch.context() as patch:
        patch.setattr(type(ensemble), "member_outputs", fail_third)
        with pytest.raises(KeyboardInterrupt):
            predict(ensemble, cells, out=out)
    assert len(list((out / "parts").glob("*.parquet"))) == 2


def test_a_prediction_half_done_is_not_mixed_with_another(ensemble, run, cells, tmp_path, monkeypatch):
    out = tmp_path / "out"
    half_done(ensemble, cells, out, monkeypatch)
    other_run = shutil.copytree(run.folder, tmp_path / "other")
    for given, images, views, word in [
        (ensemble, cells, 1, "views"),
        (ensemble, cells / "000.png", None, "images"),
        (other_run, cells, None, "run"),
    ]:
        with pytest.raises(RunError, match=word):
            predict(given, images, out=out, views=views, accelerator="cpu")
    assert len(list((out / "parts").glob("*.parquet"))) == 2
    assert predict(ensemble, cells, out=out).num_images == 200


def test_an_image_that_changed_meanwhile_is_not_mixed_in(ensemble, cells, tmp_path, monkeypatch):
    copied = shutil.copytree(cells, tmp_path / "cells")
    half_done(ensemble, copied, tmp_path / "out", monkeypatch)
    Image.new("RGB", (30, 30), "red").save(copied / "000.png")
    with pytest.raises(RunError, match="other images"):
        predict(ensemble, copied, out=tmp_path / "out")


def count_members_asked(ensemble, monkeypatch):
    calls, member_outputs = [], type(ensemble).member_outputs
    monkeypatch.setattr(type(ensemble), "member_outputs", lambda *a: calls.append(1) or member_outputs(*a))
    return calls


def test_what_is_finished_is_not_done_again(ensemble, cells, tmp_path, monkeypatch):
    copied = shutil.copytree(cells, tmp_path / "cells")
    (copied / "000.png").write_bytes(b"cut")
    first = predict(ensemble, copied, out=tmp_path / "out")
    calls = count_members_asked(ensemble, monkeypatch)
    assert predict(ensemble, copied, out=tmp_path / "out") == first
    assert not calls
    shutil.copyfile(cells / "000.png", copied / "000.png")  # mended
    assert predict(ensemble, copied, out=tmp_path / "out").num_unreadable == 0
    assert calls


def test_other_images_may_follow_in_the_same_folder(ensemble, cells, tmp_path):
    (tmp_path / "ids.csv").write_text("ID,labels\n000,\n")
    options = {"format": "wbcbench", "sample_submission": tmp_path / "ids.csv"}
    predict(ensemble, cells / "000.png", out=tmp_path / "out", **options)
    assert (tmp_path / "out" / "submission.csv").exists()
    other = predict(ensemble, cells / "001.png", out=tmp_path / "out")
    assert len(other.table()) == 1
    assert not (tmp_path / "out" / "submission.csv").exists()  # it was of the images before


def test_a_damaged_plan_gives_no_traceback(ensemble, cells, tmp_path):
    predict(ensemble, cells / "001.png", out=tmp_path / "out")
    (tmp_path / "out" / "parts").mkdir()
    (tmp_path / "out" / "plan.json").write_text("{")
    done = predict(ensemble, cells / "000.png", out=tmp_path / "out")
    assert done.table()["image"].tolist() == [str(cells / "000.png")]


def test_retrained_weights_are_not_mistaken_for_the_old_ones(run, cells, tmp_path, monkeypatch):
    copied = shutil.copytree(run.folder, tmp_path / "run")
    predict(copied, cells / "000.png", out=tmp_path / "out", accelerator="cpu")
    for file in sorted(copied.rglob("weights.safetensors")):
        weights = {name: tensor * 0 for name, tensor in safetensors.torch.load_file(file).items()}
        safetensors.torch.save_file(weights, file)
    seal(copied)
    again = predict(copied, cells / "000.png", out=tmp_path / "out", accelerator="cpu").table()
    assert again["confidence"][0] == pytest.approx(1 / 3, abs=1e-5)


def untrained_run(folder, *, image_size_px):
    """A run folder as documented, of one small convolutional network that was never trained."""
    recipe = load_recipe("demo", ['models.architectures=["convnextv2_mini"]', f"models.image_size_px={image_size_px}"])
    member = folder / "members" / "convnextv2_mini" / "fold-0"
    member.mkdir(parents=True)
    network, _ = make_classifier("convnextv2_mini", recipe.models, 3, trained=True)
    safetensors.torch.save_file(network.state_dict(), member / "weights.safetensors")
    (folder / "recipe.toml").write_text(recipe.to_toml())
    members = [{"architecture": "convnextv2_mini", "fold": 0, "weight": 1.0}]
    classes = ["EO", "LY", "SNE"]
    description = {"classes": classes, "members": members, "trained_priors": dict.fromkeys(classes, 1 / 3)}
    (folder / "ensemble.json").write_text(json.dumps(description | {"format_version": 1}))
    begun = {"architectures": ["convnextv2_mini"], "num_folds": 1, "fingerprints": {}}
    (folder / "provenance.json").write_text(json.dumps(begun | {"classes": description["classes"]}))
    return seal(folder)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tiny_dataset, tmp_path):
    """Two and a half times the images at the same peak: an image takes 108 kB as the network sees it."""
    size = 192
    ensemble = load(untrained_run(tmp_path / "run", image_size_px=size), accelerator="cpu")
    source = tiny_dataset.paths()[0]
    folder = tmp_path / "cells"
    folder.mkdir()
    for i in range(10 * CHUNK_SIZE):
        (folder / f"{i:04d}.png").symlink_to(source)
    paths = sorted(folder.iterdir())

    def peak(num_images):
        tracemalloc.start()
        try:
            predict(ensemble, paths[:num_images], out=tmp_path / f"{num_images}", views=1, num_workers=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(8)  # imports, caches
    few, many = peak(4 * CHUNK_SIZE), peak(10 * CHUNK_SIZE)  # three chunks are in memory: one predicted, two read ahead
    bytes_of_more = 6 * CHUNK_SIZE * size * size * 3
    assert many - few < 0.1 * bytes_of_more


def test_wrong_options_are_refused_before_anything_is_done(ensemble, cells, tmp_path):
    (tmp_path / "ids.csv").write_text("ID,labels\n000,\n")
    ids = tmp_path / "ids.csv"
    for options, words in [
        ({"format": "xml"}, '"xml"'),
        ({"format": "wbcbench"}, "needs the challenge's table"),
        ({"unreadable_label": "LY"}, "`unreadable_label` has no effect"),
        ({"sample_submission": ids}, "`sample_submission` has no effect"),
        ({"format": "wbcbench", "sample_submission": ids, "unreadable_label": "XX"}, '"XX" is not a class'),
        ({"format": "wbcbench", "sample_submission": tmp_path / "none.csv"}, r"none\.csv"),
    ]:
        with pytest.raises(DataError, match=words):
            predict(ensemble, cells, out=tmp_path / "out", **options)
    ids.write_text("ID,labels\n000,\n999,\n")
    with pytest.raises(DataError, match=r"1 of 2 .*\b999"):
        predict(ensemble, cells, out=tmp_path / "out", format="wbcbench", sample_submission=ids)
    assert not (tmp_path / "out").exists()


def test_a_submission_that_failed_is_written_without_predicting_again(ensemble, cells, tmp_path, monkeypatch):
    copied = shutil.copytree(cells, tmp_path / "cells")
    (copied / "007.png").write_bytes(b"")
    (tmp_path / "ids.csv").write_text("ID,labels\n" + "".join(f"{i:03d},\n" for i in range(200)))
    options = {"out": tmp_path / "out", "format": "wbcbench", "sample_submission": tmp_path / "ids.csv"}
    with pytest.raises(DataError, match=r"\b1 .*007\.png") as caught:
        predict(ensemble, copied, **options)
    assert "unreadable_label" in caught.value.hint
    assert not (tmp_path / "out" / "submission.csv").exists()
    calls = count_members_asked(ensemble, monkeypatch)
    predict(ensemble, copied, unreadable_label="LY", **options)
    assert not calls
    rows = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    assert len(rows) == 201
    assert rows[8] == "007,LY"
