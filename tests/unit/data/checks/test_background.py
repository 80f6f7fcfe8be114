"""The background's colour: planted differences between patients and sources are measured and named, others are not."""

import json
import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nonet.data.build import build_dataset
from nonet.data.checks.background import BACKGROUND, background_notes, find_backgrounds
from nonet.data.checks.intraclass import intraclass_correlation
from nonet.data.dataset_record import summarise_dataset
from nonet.data.images.image_stats import compute_image_stats
from nonet.data.manifest import Dataset
from nonet.data.verify import check_dataset


def cells_table(groups, between, *, seed=0, within=1.0, **columns):
    """Images whose background differs between the groups by a normal deviate of this standard deviation."""
    rng = np.random.default_rng(seed)
    names, codes = np.unique(groups, return_inverse=True)
    colours = 200 + rng.normal(0, between, (len(names), 3))[codes] + rng.normal(0, within, (len(codes), 3))
    rows = {"source": "s", "patient": groups, "patient_is_standin": False, "label": "SNE", "split": None}
    return pd.DataFrame(rows | dict(zip(BACKGROUND, colours.T)) | columns)


def notes(table):
    return {note.kind: note.text for note in background_notes(find_backgrounds(table), table)}


def by_patient(table):
    return find_backgrounds(table)[1]


def reference(values, groups):
    """One-way random analysis of variance, from its definition; values of one channel."""
    members = [[x for x, group in zip(values, groups) if group == name] for name in sorted(set(groups))]
    num, num_groups = len(values), len(members)
    overall = sum(values) / num
    means = [sum(each) / len(each) for each in members]
    between = sum(len(each) * (mean - overall) ** 2 for each, mean in zip(members, means)) / (num_groups - 1)
    within = sum((x - mean) ** 2 for each, mean in zip(members, means) for x in each) / (num - num_groups)
    size = (num - sum(len(each) ** 2 for each in members) / num) / (num_groups - 1)
    variance = (between - within) / size
    return variance, within


def test_correlation_of_shrout_and_fleiss():
    """Psychological Bulletin 86, 1979, table 2: six targets, four judges; ICC(1, 1) is .17, and F(5, 18) is 1.79."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    result = intraclass_correlation(np.array(ratings).reshape(-1, 1), np.repeat(range(6), 4))
    assert result.value == pytest.approx(0.166, abs=5e-4)
    assert result.p_value == pytest.approx(0.165, abs=5e-4)


@pytest.mark.parametrize("seed", range(4))
def test_unequal_groups_as_by_definition(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(["a", "b", "c", "d"], rng.integers(2, 9, 4))
    values = rng.normal(0, [1, 5, 2], (len(groups), 3)) + 2 * (groups == "c")[:, None]
    parts = [reference(list(channel), list(groups)) for channel in values.T]
    for channel, (variance, within) in zip(values.T, parts):
        result = intraclass_correlation(channel[:, None], groups)
        assert result.value == pytest.approx(variance / (variance + within), rel=1e-9)
    variance, within = np.sum(parts, axis=0)
    assert intraclass_correlation(values, groups).value == pytest.approx(variance / (variance + within), rel=1e-9)


@pytest.mark.parametrize(("num_groups", "correlation"), [(8, 0.0), (8, 0.9), (40, 0.5)])
def test_interval_covers_the_planted_correlation(num_groups, correlation):
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        groups = np.repeat(np.arange(num_groups), rng.integers(2, 30, num_groups))
        own = rng.normal(0, np.sqrt(correlation), (num_groups, 3))[groups]
        result = intraclass_correlation(own + rng.normal(0, np.sqrt(1 - correlation), own.shape), groups)
        covered += result.low <= correlation <= result.high
    assert 183 <= covered <= 199  # 95 % of 200 is 190


def test_a_colour_per_patient_is_named_and_a_common_colour_is_not():
    patients = np.repeat([f"P{i:02d}" for i in range(20)], 15)
    differ, alike = cells_table(patients, between=10), cells_table(patients, between=0)
    (source, patient), other = find_backgrounds(differ), by_patient(alike)
    assert patient.correlation > 0.97 and patient.found and patient.low < patient.correlation < patient.high < 1
    assert abs(other.correlation) < 0.05 and not other.found and notes(alike) == {}
    assert source.reason == "one source" and not source.found
    text = notes(differ)["background: patient"]
    assert f"{patient.correlation:.2f}" in text and "20 patients" in text and "leak" in text


def test_chance_is_not_named():
    """With two images each of two patients, more than half of the variance often lies between them by chance."""
    tables = [cells_table(list("aabb"), between=0, seed=seed) for seed in range(60)]
    assert sum(by_patient(table).correlation > 0.5 for table in tables) > 5
    assert not any(notes(table) for table in tables)


def test_sources_are_compared_with_each_other_and_patients_only_within_their_source():
    patients = [f"{source}/{i}" for source in "st" for i in range(10) for _ in range(12)]
    table = cells_table([name[0] for name in patients], between=10, patient=patients)
    table["source"] = table["patient"].str[0]
    source, *within = find_backgrounds(table)
    assert source.found and source.num_groups == 2 and np.isnan(source.low)
    assert [each.scope for each in within] == ["s", "t"] and not any(each.found for each in within)
    assert list(notes(table)) == ["background: source"]
    assert "between sources" in notes(table)["background: source"]


@pytest.mark.parametrize(
    ("patients", "between", "reason"),
    [
        ([None] * 6, 1, "patients unknown"),
        (list("aaaaaa"), 1, "one patient"),
        (list("abcdef"), 1, "one image per patient"),
        (list("a"), 1, "one patient"),
    ],
)
def test_what_cannot_be_compared_is_said(patients, between, reason):
    table = cells_table([str(each) for each in patients], between, patient=patients)
    background = by_patient(table)
    assert background.reason == reason and np.isnan(background.correlation) and notes(table) == {}
    assert background.num_images + background.num_unknown == len(patients)


def test_one_colour_and_colours_without_spread():
    patients = list("aabbcc")
    assert by_patient(cells_table(patients, between=0, within=0)).reason == "one colour in all images"
    exact = by_patient(cells_table(patients, between=5, within=0))
    assert exact.correlation == pytest.approx(1) and exact.found and np.isnan(exact.low)
    assert find_backgrounds(cells_table([], between=1)) == []


def test_images_without_a_patient_are_left_out_and_standins_are_called_so():
    known = cells_table(np.repeat(list("abcdefgh"), 10), between=10, patient_is_standin=True)
    unknown = cells_table(["x"] * 25, between=0, patient=None, seed=1)
    both = by_patient(pd.concat([known, unknown], ignore_index=True))
    assert both.correlation == by_patient(known).correlation
    assert (both.num_images, both.num_unknown) == (80, 25) and both.standins
    assert "guessed from the file order" in notes(known)["background: patient"]


def test_classes_of_one_source_or_patient_are_named():
    patients = np.repeat([f"P{i}" for i in range(8)], 40)
    table = cells_table(patients, between=10, label=np.tile(["SNE", "LY", "MO", "BL"], 80))
    assert list(notes(table)) == ["background: patient"]
    of_one = table["patient"].eq("P3") & table["label"].eq("MO")
    table.loc[of_one, "label"] = "PC"
    table.loc[np.flatnonzero(table["patient"].eq("P4") & table["label"].eq("BL"))[:1], "label"] = "PC"
    assert "PC (P3)" in notes(table)["classes of one patient"]  # ten of eleven
    two = pd.concat([table, cells_table(["Q"] * 90, between=0, label="EO", source="t")], ignore_index=True)
    assert re.search(r"one source: EO \(t\)\.|one source: .*; EO \(t\)\.", notes(two)["classes of one source"])


def test_a_class_of_the_larger_source_is_not_named():
    """Where nearly all images are of one source, so are those of each class."""
    table = cells_table(["P"] * 400, between=0, label=np.tile(["SNE", "LY"], 200), source=["s"] * 390 + ["t"] * 10)
    assert "classes of one source" not in notes(table)


def test_background_is_the_glass_between_cells():
    image = np.full((100, 50, 3), (240, 230, 210), dtype=np.uint8)
    image[10:90, 5:45] = 90  # the cell
    assert compute_image_stats(image).background == (240, 230, 210)
    image[:, :40] = (200, 120, 110)  # red cells over most of the border
    assert compute_image_stats(image).background == (240, 230, 210)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    inside = np.zeros((40, 40), dtype=bool)
    inside[2:-2, 2:-2] = True
    expected = np.percentile(noise[~inside], 95, axis=0, method="inverted_cdf")
    assert compute_image_stats(noise).background == tuple(expected)


@pytest.mark.usefixtures("without_figures")
def test_build_check_page_and_datasheet_record_say_it(tmp_path):
    rng = np.random.default_rng(3)
    lines = ["path,label,patient"]
    for patient in range(8):
        for number in range(12):
            image = np.full((40, 40, 3), 190 + 7 * patient, dtype=np.int64) + rng.integers(-2, 3, (40, 40, 3))
            image[8:32, 8:32] = rng.integers(0, 256, (24, 24, 3))
            name = f"{patient}-{number}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
            lines.append(f"{name},{['SNE', 'LY', 'MO'][number % 3]},P{patient}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    dataset = build_dataset(f"csv:{tmp_path / 't.csv'}", tmp_path / "out")
    report = check_dataset(tmp_path / "out")
    data = json.loads((tmp_path / "out/checks.json").read_text())
    (note,) = data["notes"]
    assert note["kind"] == "background: patient" and data["findings"] == [] and report.checks.ok
    assert [row["group"] for row in data["backgrounds"]] == ["source", "patient"]
    assert data["backgrounds"][1]["correlation"] > 0.95 and data["backgrounds"][0]["correlation"] is None
    assert len(data["backgrounds"][1]["colours"]) == 8
    page = unescape((tmp_path / "out/checks.html").read_text())
    for text in (dataset.summary(), Dataset.open(tmp_path / "out").summary(), str(report), page):
        assert note["text"] in text
    assert "told apart" in page and "one source" in page and "Nothing was found" in page
    assert page.count('<span style="background: rgb(') == 8
    assert summarise_dataset(dataset)["checks"]["notes"] == [note["text"]]
