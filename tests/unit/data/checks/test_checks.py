"""The checks of a dataset: what is planted in drawn cells is named, and nothing else; what is clean stays silent."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from nonet.data.build import build_dataset
from nonet.data.checks.near_duplicates import VIEWS, near_duplicates
from nonet.data.checks.run import run_checks
from nonet.data.checks.shortcuts import find_shortcuts
from nonet.data.images.image_stats import ImageStats, compute_image_stats
from nonet.data.verify import check_dataset
from nonet.errors import DataError
from nonet.synthetic.dataset import draw_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn cells of twelve patients. Shared: copy them before planting anything."""
    return draw_dataset(
        tmp_path_factory.mktemp("cells") / "lab", num_images=300, num_patients=12, size_px=64, num_workers=1
    )


@pytest.fixture
def cells(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "lab")
    return folder, pd.read_csv(folder / "images.csv")


def built(folder, tmp_path):
    return build_dataset(f"csv:{folder / 'images.csv'}", tmp_path / "dataset")


def findings(folder):
    return json.loads((folder / "checks.json").read_text())["findings"]


def change(folder, paths, how):
    for path in paths:
        with Image.open(folder / path) as image:
            how(image.copy()).save(folder / path)


def bordered(image):
    inner = image.crop((3, 3, image.width - 3, image.height - 3))
    return ImageOps.expand(inner, 3, (230, 180, 120))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("corrupt", [True, False])
@pytest.mark.usefixtures("without_figures")
def test_clean_cells_are_met_with_silence(tmp_path, seed, corrupt):
    folder = draw_dataset(
        tmp_path / "lab", num_images=260, num_patients=12, size_px=48, seed=seed, corrupt=corrupt, label_error_rate=0.05
    )
    dataset = built(folder, tmp_path)
    assert findings(dataset.folder) == []
    assert check_dataset(dataset).checks.ok


@pytest.mark.slow
@pytest.mark.parametrize("label", ["EO", "PLY", "SNE"])
@pytest.mark.usefixtures("without_figures")
def test_class_with_another_frame_is_named(cells, tmp_path, label):
    folder, table = cells
    change(folder, table.path[table.label == label], lambda image: image.resize((66, 64)))
    dataset = built(folder, tmp_path)
    assert [finding["kind"] for finding in findings(dataset.folder)] == ["shortcut: size"]
    for text in (dataset.summary(), str(check_dataset(dataset))):
        assert re.search(rf"\bsize\b.*\b{label}\b", text)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["MO", "BL"])
@pytest.mark.usefixtures("without_figures")
def test_class_with_another_border_is_named(cells, tmp_path, label):
    folder, table = cells
    change(folder, table.path[table.label == label], bordered)
    dataset = built(folder, tmp_path)
    assert [finding["kind"] for finding in findings(dataset.folder)] == ["shortcut: border colour"]
    assert f"it gives {label} away" in dataset.summary()


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_border_of_a_patient_is_no_shortcut(cells, tmp_path):
    folder, table = cells
    change(folder, table.path[table.patient == table.patient.iloc[0]], bordered)
    assert findings(built(folder, tmp_path).folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("turn", [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90])
def test_recompressed_copy_across_patients_is_named(cells, tmp_path, turn):
    folder, table = cells
    same = table[table.label == "SNE"]
    one = same.iloc[0]
    other = same[same.patient != one.patient].iloc[0]
    with Image.open(folder / one.path) as image:
        copy = image if turn is None else image.transpose(turn)
        copy.save(tmp_path / "copy.jpg", quality=50)
    shutil.copy(tmp_path / "copy.jpg", folder / other.path)
    dataset = built(folder, tmp_path)
    (finding,) = findings(dataset.folder)
    assert finding["kind"] == "near duplicates: patients differ" and "1 pair" in finding["text"]
    for words in (one.path, other.path, one.patient, other.patient):
        assert words in finding["text"] and words in str(check_dataset(dataset))
    (pair,) = json.loads((dataset.folder / "checks.json").read_text())["pairs"]
    assert pair["similarity"] > 0.98


@pytest.mark.parametrize(
    ("label", "patient", "split", "kind"),
    [
        ("EO", "A", "", "labels differ"),
        ("SNE", "", "", "patient unknown"),
        ("SNE", "A", "test", "test"),
        ("SNE", "B", "", "patients differ"),
        ("SNE", "A", "", None),  # the same patient: folds keep it together
    ],
)
@pytest.mark.usefixtures("without_figures")
def test_kind_of_a_pair(tmp_path, label, patient, split, kind):
    texture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = Image.fromarray(texture).resize((64, 64), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.jpg", quality=60)
    (tmp_path / "t.csv").write_text(f"path,label,patient,split\na.png,SNE,A,\nb.jpg,{label},{patient},{split}\n")
    folder = build_dataset(f"csv:{tmp_path / 't.csv'}", tmp_path / "out").folder
    kinds = [f["kind"].split(": ")[1] for f in findings(folder) if f["kind"].startswith("near")]
    assert kinds == ([kind] if kind else [])
    (pair,) = json.loads((folder / "checks.json").read_text())["pairs"]
    assert pair["kind"] == (kind or "same patient")


@pytest.mark.usefixtures("without_figures")
def test_versions_of_one_image_are_no_leak_unless_one_is_of_the_test(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    stats = [ImageStats(picture, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))] * 2
    row = {"label": "SNE", "source": "s", "split": None, "evaluate": True, "width": 9, "height": 9}
    rows = [row | {"image_id": f"s/{name}", "path": name, "patient": name} for name in "ab"]
    table = pd.DataFrame(rows).assign(patient_is_standin=True)
    excluded = pd.DataFrame(columns=["path", "source", "label", "reason"])

    def kinds(table):
        return list(run_checks(table, stats, excluded).pairs["kind"])

    assert kinds(table) == kinds(table.assign(original_image_id=None)) == ["patients differ"]
    assert kinds(table.assign(original_image_id=["s/a", "s/b"])) == ["patients differ"]
    versions = table.assign(original_image_id="s/a")
    assert kinds(versions) == ["same original"]
    assert not [f for f in run_checks(versions, stats, excluded).findings if f.kind.startswith("near")]
    assert kinds(versions.assign(split=[None, "test"])) == ["test"]


@pytest.mark.usefixtures("without_figures")
def test_a_pair_that_is_only_trained_on_leaks_nothing(tmp_path):
    texture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = Image.fromarray(texture).resize((64, 64), Image.Resampling.BICUBIC)
    for name in ("a.png", "b.jpg"):
        image.save(tmp_path / name)
    (tmp_path / "t.csv").write_text("path,label,source\na.png,SNE,other\nb.jpg,SNE,other\n")
    folder = build_dataset(f"csv:{tmp_path / 't.csv'}", tmp_path / "out", external="other").folder
    assert not [f for f in findings(folder) if f["kind"].startswith("near")]
    (tmp_path / "t.csv").write_text("path,label,source\na.png,SNE,other\nb.jpg,EO,other\n")
    folder = build_dataset(f"csv:{tmp_path / 't.csv'}", tmp_path / "out", external="other").folder
    assert [f["kind"] for f in findings(folder) if f["kind"].startswith("near")] == ["near duplicates: labels differ"]


def test_every_view_of_a_picture_is_found_and_named():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (32, 32)).astype(np.uint8)
    views = [np.rot90(part, k) for part in (picture, picture[:, ::-1]) for k in range(4)]
    for k, view in enumerate(views):
        # The view named is the one that turns the second into the first.
        (pair,) = near_duplicates(np.stack([view, picture])).itertuples()
        assert (pair.first, pair.second, pair.view) == (0, 1, VIEWS[k]) and pair.similarity == pytest.approx(1)


def test_search_finds_what_comparing_all_with_all_finds():
    rng = np.random.default_rng(2)
    base = rng.normal(128, 40, (40, 32, 32))
    noisy = base[rng.permutation(40)] + rng.normal(0, 8, (40, 32, 32))
    small = np.concatenate([base, noisy]).clip(0, 255).astype(np.uint8)
    flat = small.reshape(80, -1).astype(float)
    expected = {(i, j) for i, j in np.argwhere(np.triu(np.corrcoef(flat), 1) >= 0.9)}
    found = near_duplicates(small, min_similarity=0.9)
    assert set(zip(found["first"], found["second"])) == expected and len(expected) == 40


def test_flat_none_and_one_image_have_no_near_duplicates():
    for small in (np.zeros((0, 32, 32), np.uint8), np.zeros((5, 32, 32), np.uint8), np.ones((1, 32, 32), np.uint8)):
        assert near_duplicates(small).empty


def test_border_colour_is_of_the_border_alone():
    image = np.full((100, 50, 3), (10, 20, 30), dtype=np.uint8)
    image[10:90, 5:45] = 200
    assert compute_image_stats(image).border == pytest.approx((10, 20, 30))
    assert compute_image_stats(image).thumbnail.shape == (32, 32)


def order_table(labels, **columns):
    rows = {"label": labels, "source": "s", "path": [f"{i}.png" for i in range(len(labels))], "patient": None}
    rows |= {"patient_is_standin": False, "width": 9, "height": 9, "border_red": 0.0, "border_green": 0.0}
    return pd.DataFrame(rows | {"border_blue": 0.0} | columns)


def order_of(table):
    return next(shortcut for shortcut in find_shortcuts(table) if shortcut.what == "file order")


def test_file_order_is_a_shortcut_where_labels_are_sorted_and_not_where_folder_or_patient_explains_it():
    labels = np.repeat(["BA", "EO", "SNE"], 40)
    assert order_of(order_table(labels)).found
    assert order_of(order_table(labels)).score == pytest.approx(117 / 119)
    assert not order_of(order_table(np.random.default_rng(0).permutation(labels))).found
    assert not order_of(order_table(labels, path=[f"{label}/{i}.png" for i, label in enumerate(labels)])).found
    assert not order_of(order_table(labels, patient=list(labels))).found
    assert order_of(order_table(labels, patient=list(labels), patient_is_standin=True)).found


@pytest.mark.usefixtures("without_figures")
def test_size_that_differs_between_sources_only_is_reported_over_all_sources(tmp_path):
    labels = np.random.default_rng(0).permutation(np.repeat(["BA", "EO", "SNE"], 30))
    here, there = order_table(labels), order_table(np.repeat(["MY", "MMY"], 30), source="t", width=20)
    found = {(s.what, s.scope) for s in find_shortcuts(pd.concat([here, there])) if s.found}
    assert ("size", "all sources") in found and not {("size", "s"), ("size", "t")} & found


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_copies_unreadable_images_and_small_classes_are_reported(cells, tmp_path):
    folder, table = cells
    paths = list(table.path[table.label == "SNE"])
    (folder / paths[0]).write_bytes(b"nothing")
    other = table.path[table.label == "LY"].iloc[0]
    shutil.copy(folder / paths[1], folder / other)
    keep = (table.label != "PC") | (table.patient == table.patient[table.label == "PC"].iloc[0])
    table[keep].to_csv(folder / "images.csv", index=False)
    dataset = built(folder, tmp_path)
    data = json.loads((dataset.folder / "checks.json").read_text())
    assert [f["kind"] for f in data["findings"]] == ["unreadable", "conflicting copies", "too few patients"]
    assert paths[0] in data["findings"][0]["text"] and "PC (1)" in data["findings"][2]["text"]
    assert {row["path"] for row in data["conflicts"]} == {paths[1], other}
    counts = pd.DataFrame(data["counts"]).set_index("class")
    assert counts.loc["PC", "patients"] == 1 and counts["images"].sum() == len(dataset.manifest)


@pytest.mark.slow
def test_how_many_patients_a_class_needs_is_passed_to_the_checks(cells, tmp_path):
    folder, table = cells
    few = set(table.groupby("label")["patient"].nunique().loc[lambda n: n < 6].index)
    assert few and table.groupby("label")["patient"].nunique().min() >= 3

    def named():
        texts = [f["text"] for f in findings(tmp_path / "dataset") if f["kind"] == "too few patients"]
        return {label for text in texts for label in re.findall(r"(\w+) \(\d+\)", text)}

    build_dataset(f"csv:{folder / 'images.csv'}", tmp_path / "dataset", num_folds=6)
    assert named() == few
    assert "fewer patients than folds (6)" in (tmp_path / "dataset/checks.html").read_text()
    assert check_dataset(tmp_path / "dataset").checks.ok and named() == set()
    assert not check_dataset(tmp_path / "dataset", num_folds=6).checks.ok and named() == few
    with pytest.raises(DataError, match=r"\b1 folds"):
        check_dataset(tmp_path / "dataset", num_folds=1)


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_check_names_what_became_unreadable(cells, tmp_path):
    dataset = built(cells[0], tmp_path)
    dataset.paths()[0].unlink()
    report = check_dataset(dataset)
    assert not report.ok and not report.checks.ok
    assert [f["kind"] for f in findings(dataset.folder)] == ["unreadable"]


def test_page_is_whole_safe_and_needs_no_network(cells, tmp_path):
    folder, table = cells
    table["label"] = table["label"].replace({"EO": "<b>E&O"})
    table.to_csv(folder / "images.csv", index=False)
    page = (built(folder, tmp_path).folder / "checks.html").read_text()
    assert "<b>E&O" not in page and "&lt;b&gt;E&amp;O" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\((?!#)", page)
    for words in ("Figure 1", "Figure 2", "Table 1", "Table 2", "Nothing was found"):
        assert words in page


def test_the_page_shows_what_the_networks_of_each_recipe_see(tiny_dataset, monkeypatch):
    """One image a class, cut and resized by each recipe's own settings, in a column that names the recipe."""
    from nonet.data.checks import page as checks_page
    from nonet.recipe import list_recipes, load_recipe

    drawn = {}
    monkeypatch.setattr(
        checks_page, "with_page_style", lambda draw, *args, **kwargs: drawn.update(kwargs, images=args[0])
    )
    images, labels = checks_page._samples(tiny_dataset)
    checks_page._crop_figure(images, labels)
    seen = set(zip(drawn["heads"], (image.shape[0] for image in drawn["images"])))
    for name in list_recipes():
        models = load_recipe(name).models
        centres = models.centre.values() if isinstance(models.centre, dict) else [models.centre]
        sizes = {(head.splitlines()[1], size) for head, size in seen if name in head.splitlines()[0].split(", ")}
        assert sizes == {
            ("whole" if centre == 1 else f"central {100 * centre:g} %", models.image_size_px or 224)
            for centre in centres
        }
    assert len(drawn["images"]) == len(drawn["heads"]) * len(tiny_dataset.classes)
