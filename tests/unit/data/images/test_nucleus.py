"""What shows no nucleus is unidentified: frames that are blank, plain, graded, out of focus, or of red cells alone."""

import contextlib
import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from helpers.drawn_cells import draw_red_cells
from nonet.artifacts.ensemble_file import EnsembleFile, MemberEntry
from nonet.calibration.nucleus_rule import NucleusRule, fit_nucleus_rule
from nonet.cells import CLASSES
from nonet.data.images.nucleus import shows_nucleus
from nonet.data.preprocess.corruptions import CORRUPTIONS, corrupt
from nonet.evaluation.bootstrap import Bootstrap
from nonet.synthetic.appearance import patient_appearance
from nonet.synthetic.dataset import draw_cell, draw_dataset


def plain(*colour, side=96):
    return np.full((side, side, 3), colour, dtype=np.uint8)


def gradient(first, last, angle_deg, *, side=96):
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    along = np.cos(np.radians(angle_deg)) * x + np.sin(np.radians(angle_deg)) * y
    share = (along - along.min()) / np.ptp(along)
    return np.rint(first + (np.asarray(last) - first) * share[..., None]).astype(np.uint8)


def radial(inside, outside, *, side=96):
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    share = np.hypot(x, y)[..., None] / np.hypot(0.5, 0.5)
    return np.rint(inside + (np.asarray(outside) - inside) * share).astype(np.uint8)


def out_of_focus(seed, *, side=96):
    """Pinkish clouds of 8 grey levels."""
    clouds = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side, 3)), (9, 9, 0))
    return np.clip(np.array([238, 222, 205]) + 8 * clouds / clouds.std(), 0, 255).astype(np.uint8)


def grey(image):
    return np.repeat(np.rint(image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2).astype(np.uint8)


def empty_frames():
    """Return what has no nucleus in it, by name."""
    rng = np.random.default_rng(0)
    frames = {"white": plain(255, 255, 255), "black": plain(0, 0, 0), "violet": plain(96, 56, 130)}
    frames |= {f"plain-{i}": plain(*rng.integers(0, 256, 3)) for i in range(40)}
    for i in range(40):
        first, last = rng.integers(0, 256, (2, 3)).astype(float)
        frames[f"gradient-{i}"] = gradient(first, last, rng.uniform(0, 360))
        frames[f"radial-{i}"] = radial(first, last)
    frames |= {f"grey-gradient-{a}": gradient(np.zeros(3), np.full(3, 255.0), a) for a in range(0, 360, 30)}
    frames |= {f"out-of-focus-{i}": out_of_focus(i) for i in range(20)}
    frames |= {f"noise-{i}": rng.integers(0, 256, (192, 192, 3), dtype=np.uint8) for i in range(4)}
    empty = plain(238, 222, 205)
    y, x = np.mgrid[:96, :96] / 95 - 0.5
    for i, share in enumerate((0.2, 0.4, 0.6, 0.8)):
        edge = round(96 * share)
        for name, colour in (("black", 0), ("grey", 128)):
            half = empty.copy()
            half[edge:] = colour
            frames |= {f"half-{name}-{i}": half, f"half-{name}-beside-{i}": np.rot90(half)}
    bars = empty.copy()
    bars[:12], bars[-12:] = 0, 0
    scale = empty.copy()
    scale[84:87, 58:92] = 0
    fall_off = 1 - 0.6 * (np.hypot(x, y) / np.hypot(0.5, 0.5)) ** 2
    frames |= {"bars": bars, "scale-bar": scale, "vignette": (empty * fall_off[..., None]).astype(np.uint8)}
    fields = [draw_red_cells(seed=i, size_px=96, patient=patient_appearance(i)) for i in range(20)]
    frames |= {f"red-cells-{i}": field for i, field in enumerate(fields)}
    frames |= {f"red-cells-blurred-{i}": corrupt(field, "blur", 1 + i % 4, seed=i) for i, field in enumerate(fields)}
    return frames


def test_an_empty_frame_shows_no_nucleus():
    shows = [name for name, pixels in empty_frames().items() if shows_nucleus(pixels)]
    assert not shows


@pytest.mark.parametrize("side", [16, 64, 224])
def test_it_does_not_matter_how_large_an_empty_frame_is(side):
    assert not shows_nucleus(plain(255, 255, 255, side=side))
    assert not shows_nucleus(gradient(np.zeros(3), [255, 0, 255], 40, side=side))
    assert not shows_nucleus(draw_red_cells(seed=0, size_px=side))
    assert shows_nucleus(draw_cell("LY", seed=0, size_px=side))


@pytest.mark.parametrize("label", CLASSES)
def test_drawn_cells_show_one(label):
    cells = [draw_cell(label, seed=i, size_px=96, patient=patient_appearance(i)) for i in range(8)]
    assert all(shows_nucleus(cell) for cell in cells)
    assert all(shows_nucleus(grey(cell)) for cell in cells)
    assert all(shows_nucleus(np.rot90(cell, k)) for k in range(4) for cell in cells[:2])
    for kind in CORRUPTIONS:
        hidden = [i for i, cell in enumerate(cells) if not shows_nucleus(corrupt(cell, kind, 2, seed=i))]
        assert len(hidden) <= (1 if kind == "colour" else 0), kind


def test_a_nucleus_that_fills_the_frame_is_one():
    cells = [draw_cell(label, seed=i, size_px=240)[80:160, 80:160] for label in ("PMY", "BL") for i in range(8)]
    assert all(shows_nucleus(np.ascontiguousarray(cell)) for cell in cells)


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("colour", [0, 255])
def test_a_margin_hides_no_nucleus(label, colour):
    for i in range(4):
        framed = np.full((144, 144, 3), colour, dtype=np.uint8)
        framed[24:120, 24:120] = draw_cell(label, seed=i, size_px=96, patient=patient_appearance(i))
        assert shows_nucleus(framed) and shows_nucleus(framed[24:]) and shows_nucleus(framed[:, :120])


def test_a_pale_nucleus_on_a_yellowish_slide_is_found_beside_white():
    """Against white, all that is yellowish seems to take blue light; against the slide, the nucleus takes red."""
    y, x = np.mgrid[:96, :96] / 95 - 0.5
    pixels = np.where(np.hypot(x, y)[..., None] < 0.2, (165, 120, 150), (235, 225, 170)).astype(np.uint8)
    assert shows_nucleus(pixels)
    pixels[np.hypot(x, y) > 0.47] = 255  # a round mask, whose rows are not plain
    assert shows_nucleus(pixels)


MEMBER = MemberEntry(architecture="vit_mini", fold=0, weight=1)


def test_images_of_another_kind_need_no_nucleus():
    assert fit_nucleus_rule(np.ones(300, dtype=bool), required=True).required
    assert fit_nucleus_rule(np.arange(300) > 2, required=True).required  # 1 %
    other = fit_nucleus_rule(np.arange(300) > 3, required=True)
    assert not other.required
    assert "4 of 300" in other.notes[0]
    assert not other.rejects(np.zeros(5, dtype=bool)).any()
    assert not fit_nucleus_rule(np.ones(300, dtype=bool), required=False).required
    assert not fit_nucleus_rule(None, required=True).required


def test_what_ensemble_json_keeps_is_what_was_decided():
    rule = fit_nucleus_rule(np.ones(300, dtype=bool), required=True)
    ensemble = EnsembleFile(classes=["LY"], members=[MEMBER], trained_priors={"LY": 1.0}, nucleus=rule.to_section())
    again = EnsembleFile.model_validate_json(ensemble.model_dump_json())
    assert NucleusRule.from_ensemble(again) == rule
    for edited in ("yes", {"required": "yes"}, {"required": True, "notes": "none"}, {"required": True, "reuired": 1}):
        with pytest.raises(ValueError):
            ensemble.updated(nucleus=edited)


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_recipe):
    """What two small networks learned of 60 drawn cells."""
    from nonet.data.build import build_dataset
    from nonet.training.launch import train

    folder = tmp_path_factory.mktemp("nucleus")
    cells = draw_dataset(folder / "drawn", num_images={"LY": 20, "MO": 20, "SNE": 20}, num_patients=6, size_px=48)
    dataset = build_dataset(f"csv:{cells / 'images.csv'}", folder / "dataset")
    return train(make_recipe("models.image_size_px=32"), dataset, out=folder / "run", accelerator="cpu")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    for name, pixels in list(empty_frames().items())[::4]:
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_empty_frames_are_unidentified_in_python_and_on_the_command_line(run, frames, tmp_path, monkeypatch):
    from nonet import cli
    from nonet.inference.load import load

    assert json.loads(run.ensemble.read_text())["nucleus"]["required"] is True
    paths = sorted(frames.glob("*.png"))
    assert len(paths) > 40
    ensemble = load(run, accelerator="cpu")
    assert set(ensemble.predict(paths)) == {"unidentified"}
    assert set(ensemble.predict(paths, best=True)) <= {"LY", "MO", "SNE"}
    cells = sorted((run.folder.parent / "drawn" / "images").glob("*.png"))[:12]
    words = ["nonet", "predict", str(run.folder), str(frames), *map(str, cells), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(logging.getLogger("nonet"), "handlers", [])  # what the program adds is taken back
    with contextlib.suppress(SystemExit):
        cli.main()
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    is_frame = table["image"].str.contains(frames.name)
    assert is_frame.sum() == len(paths)
    assert (table.loc[is_frame, "reason"] == "no nucleated cell").all()
    assert (table.loc[is_frame, "label"] == "unidentified").all()
    assert (table.loc[is_frame, "set"] == "").all()
    assert (table.loc[~is_frame, "reason"] != "no nucleated cell").all()


def test_held_out_images_pass_the_same_check(run, tmp_path):
    """A held-out image that shows none is counted by evaluate as predict decides."""
    from nonet.evaluation.ood import rejection_table, without_nucleus_out_of_fold
    from nonet.evaluation.oof import align_oof

    table, ensemble = pd.read_parquet(run.oof), EnsembleFile.read(run)
    assert table["nucleus"].dtype == bool and table["nucleus"].all()
    first = table["image_id"].iloc[0]
    oof = align_oof(table.assign(nucleus=table["image_id"] != first))
    without = without_nucleus_out_of_fold(oof, ensemble)
    assert oof.image_id[without].tolist() == [first]
    row = rejection_table(oof, np.zeros(len(oof.true), dtype=bool), without, bootstrap=Bootstrap(20)).iloc[0]
    assert (row["rejected"], row["without_nucleus"]) == (1, 1)
    off = ensemble.updated(nucleus={"required": False})
    assert not without_nucleus_out_of_fold(oof, off).any()


def test_it_can_be_turned_off(run, frames, tmp_path):
    from nonet.artifacts.run import Run
    from nonet.calibration.calibrate import calibrate
    from nonet.inference.load import load

    copy = Run(shutil.copytree(run.folder, tmp_path / "run"))
    calibrate(copy, settings=["calibrate.require_nucleus=false", "calibrate.min_confidence=0"])
    assert set(load(copy, accelerator="cpu").predict(sorted(frames.glob("*.png"))[:4])) <= {"LY", "MO", "SNE"}
