"""Drawn cells: what is drawn is what is named, what is planted is on record, and all of it comes from the seed."""

import csv
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.morphology import convex_hull_image
from skimage.restoration import estimate_sigma

from helpers.drawn_cells import cell_masks
from helpers.processes import kill_at_work
from nonet.cells import CLASSES, GRANULOCYTE_STAGES
from nonet.data.preprocess.corruptions import corrupt
from nonet.errors import DataError, StorageError
from nonet.synthetic import dataset as drawn_dataset
from nonet.synthetic.appearance import patient_appearance
from nonet.synthetic.dataset import draw_cell, draw_dataset
from nonet.synthetic.plan import DRAWN_CORRUPTIONS, NEIGHBOURS, imbalanced_counts


def read_table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A data set with label errors and corruptions, drawn once: (folder, images, truth)."""
    out = draw_dataset(
        tmp_path_factory.mktemp("drawn") / "cells",
        num_images=260,
        num_patients=9,
        size_px=32,
        seed=5,
        label_error_rate=0.15,
        corrupt=True,
    )
    return out, read_table(out / "images.csv"), read_table(out / "truth.csv")


# One cell


@pytest.mark.parametrize("label", CLASSES)
def test_cell_is_an_image_that_its_seed_decides(label):
    look = patient_appearance(3)
    image = draw_cell(label, seed=1, size_px=48, patient=look)
    assert image.shape == (48, 48, 3) and image.dtype == np.uint8
    assert np.array_equal(image, draw_cell(label, seed=1, size_px=48, patient=look))
    assert not np.array_equal(image, draw_cell(label, seed=2, size_px=48, patient=look))
    assert not np.array_equal(image, draw_cell(label, seed=1, size_px=48, patient=patient_appearance(4)))


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("size_px", [16, 65, 224])
def test_nucleus_lies_in_the_cell_and_is_darker(label, size_px):
    masks = cell_masks(label, seed=8, size_px=size_px)
    image = draw_cell(label, seed=8, size_px=size_px).mean(axis=2)
    assert masks.nucleus.any() and not (masks.nucleus & ~masks.cell).any()
    assert image[masks.nucleus].mean() < image[masks.cell & ~masks.nucleus].mean() or label == "BA"
    assert image[masks.cell].mean() < image[~masks.cell].mean()


def mean_masks(label, measure, num=25, **settings):
    return np.mean([measure(cell_masks(label, seed=i, size_px=96, **settings)) for i in range(num)])


def nucleus_share(masks):
    return masks.nucleus.sum() / masks.cell.sum()


def solidity(masks):
    """Share of its convex hull that the nucleus fills: 1 is round, less is indented or lobed."""
    return masks.nucleus.sum() / convex_hull_image(masks.nucleus).sum()


@pytest.mark.slow
def test_granulocytes_are_graded_along_the_lineage():
    shares = [mean_masks(stage, nucleus_share) for stage in GRANULOCYTE_STAGES]
    sizes = [mean_masks(stage, lambda masks: masks.cell.sum()) for stage in GRANULOCYTE_STAGES]
    solid = [mean_masks(stage, solidity) for stage in GRANULOCYTE_STAGES]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[-1] + 0.15
    assert sizes == sorted(sizes, reverse=True)
    assert solid == sorted(solid, reverse=True) and solid[1] > 0.9 > solid[3]


def test_maturity_decides_whatever_the_label_and_its_draws_overlap_at_the_borders():
    at = [mean_masks("MY", nucleus_share, 12, maturity=m) for m in (0.0, 0.25, 0.5, 0.75)]
    assert at == sorted(at, reverse=True)
    drawn = {stage: [cell_masks(stage, seed=i, size_px=16).maturity for i in range(120)] for stage in ("MY", "MMY")}
    assert max(drawn["MY"]) > 0.4 > min(drawn["MMY"])
    assert 0.01 < np.mean(np.array(drawn["MY"]) > 0.4) < 0.15
    assert cell_masks("LY", seed=1, size_px=16).maturity is None


def test_nucleus_to_cytoplasm_ratio_sets_blasts_and_lymphocytes_apart():
    share = {label: mean_masks(label, nucleus_share, 15) for label in ("BL", "LY", "PLY", "VLY", "PC", "MO")}
    assert min(share["BL"], share["LY"]) > 0.6
    assert share["LY"] > share["PLY"] > share["VLY"]
    assert max(share["PC"], share["VLY"]) < 0.45


def test_segmented_neutrophils_have_two_to_five_lobes_and_the_drawing_shows_them():
    told, agreed = Counter(), 0
    for seed in range(40):
        masks = cell_masks("SNE", seed=seed, size_px=256, maturity=0.95)
        told[masks.num_lobes] += 1
        # Lobes are 3.5 µm wide or more, what joins them is thinner: an opening keeps the one and cuts the other.
        depth = ndimage.distance_transform_edt(masks.nucleus) * 24 / 256
        agreed += abs(ndimage.label(depth > 1.2)[1] - masks.num_lobes) <= 1
    assert set(told) == {2, 3, 4, 5} and told.most_common(1)[0][0] in (3, 4)
    assert agreed >= 32
    assert all(cell_masks("MY", seed=seed, size_px=16).num_lobes == 1 for seed in range(10))


def test_granules_have_the_colour_of_their_class():
    def cytoplasm(label):
        colours = []
        for seed in range(8):
            masks = cell_masks(label, seed=seed, size_px=64)
            colours.append(draw_cell(label, seed=seed, size_px=64)[masks.cell & ~masks.nucleus].mean(axis=0))
        return np.mean(colours, axis=0)

    eosinophil, basophil, neutrophil, plasma = (cytoplasm(label) for label in ("EO", "BA", "SNE", "PC"))
    assert eosinophil[0] - eosinophil[2] > 60 > neutrophil[0] - neutrophil[2]  # orange-red
    assert basophil.mean() < neutrophil.mean() - 50  # purple-black
    assert plasma[2] - plasma[0] > 30  # deep blue


# Corruption


@pytest.mark.parametrize("kind", DRAWN_CORRUPTIONS)
def test_severity_0_changes_nothing_and_more_changes_more(kind):
    image = draw_cell("MO", seed=3, size_px=96)
    assert corrupt(image, kind, 0, seed=1) is image
    changes = [np.abs(corrupt(image, kind, s, seed=1).astype(float) - image).mean() for s in (1, 2, 3)]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert np.array_equal(corrupt(image, kind, 2, seed=1), corrupt(image, kind, 2, seed=1))


def test_noise_is_measurable_and_blur_takes_detail_away():
    image = draw_cell("SNE", seed=3, size_px=128, patient=patient_appearance(2))
    noisy = [estimate_sigma(corrupt(image, "noise", s, seed=1), channel_axis=2, average_sigmas=True) for s in range(4)]
    assert noisy == sorted(noisy) and noisy[0] < 3 and noisy[1] > 4 and noisy[3] > 12
    detail = [ndimage.laplace(corrupt(image, "blur", s, seed=1).astype(float)).std() for s in range(4)]
    assert detail == sorted(detail, reverse=True)


# A data set


def test_tables_agree_with_one_another_and_with_the_files(dataset):
    out, images, truth = dataset
    assert list(images[0]) == ["path", "label", "patient", "split"]
    assert list(truth[0]) == list(drawn_dataset.TRUTH_HEADER)
    assert Counter(row["true_label"] for row in truth) == imbalanced_counts(260, minimum=12)
    for image, true in zip(images, truth, strict=True):
        assert (image["path"], image["label"], image["patient"]) == (
            true["path"],
            true["given_label"],
            true["patient"],
        )
        assert image["split"] == ""
        assert (true["true_label"] != true["given_label"]) == (true["label_error"] == "1")
        assert (true["maturity"] != "") == (true["true_label"] in GRANULOCYTE_STAGES)
    assert {p.relative_to(out).as_posix() for p in (out / "images").iterdir()} == {row["path"] for row in images}
    with Image.open(out / images[0]["path"]) as image:
        assert image.size == (32, 32) and image.mode == "RGB"


def test_planted_errors_have_the_requested_rate_and_stay_between_neighbours(dataset):
    wrong = [row for row in dataset[2] if row["label_error"] == "1"]
    assert len(wrong) == round(0.15 * 260)
    assert all(row["given_label"] in NEIGHBOURS[row["true_label"]] for row in wrong)
    assert all(a in NEIGHBOURS[b] for a in CLASSES for b in NEIGHBOURS[a])


def test_corruptions_are_on_record(dataset):
    truth = dataset[2]
    assert {row["corruption"] for row in truth} == {"none", *DRAWN_CORRUPTIONS}
    assert {row["severity"] for row in truth} == {"0", "1", "2", "3"}
    assert all((row["corruption"] == "none") == (row["severity"] == "0") for row in truth)


def test_file_names_and_their_order_tell_nothing(dataset):
    labels = [row["true_label"] for row in dataset[2]]
    same_as_before = np.mean([a == b for a, b in pairwise(labels)])
    by_chance = sum((count / len(labels)) ** 2 for count in Counter(labels).values())
    assert abs(same_as_before - by_chance) < 0.1
    assert not any(code in row["path"] for row in dataset[1] for code in CLASSES)


def test_rare_classes_are_spread_over_at_least_four_patients(dataset):
    patients = defaultdict(set)
    for row in dataset[2]:
        patients[row["true_label"]].add(row["patient"])
    assert all(len(those) >= 4 for those in patients.values())
    assert len(patients["PLY"]) < 9  # but a rare class is not in every patient
    assert {p for those in patients.values() for p in those} == {f"D{i:03d}" for i in range(1, 10)}


def test_same_arguments_give_the_same_bytes_whatever_the_number_of_workers(tmp_path):
    settings = {"num_images": {"SNE": 9, "BNE": 6}, "num_patients": 3, "size_px": 24, "label_error_rate": 0.2}
    one = bytes_of(draw_dataset(tmp_path / "one", seed=1, num_workers=1, **settings))
    assert one == bytes_of(draw_dataset(tmp_path / "two", seed=1, num_workers=2, **settings))
    assert one == bytes_of(draw_dataset(tmp_path / "one", seed=1, **settings))  # over its own drawings
    other = bytes_of(draw_dataset(tmp_path / "three", seed=2, **settings))
    assert all(one[name] != other[name] for name in one if name.endswith(".png"))


@pytest.mark.kill
def test_a_killed_drawing_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from nonet.synthetic.dataset import draw_dataset\n"
        "if __name__ == '__main__':\n"
        f"    draw_dataset({str(tmp_path / 'cells')!r}, num_images=5000, size_px=96, num_workers=2)\n"
    )
    workers, alive = kill_at_work(script, lambda: any(tmp_path.glob("cells/images/*.png")))
    assert len(workers) >= 2 and not alive


def test_label_errors_leave_the_images_as_they_are(tmp_path):
    settings = {"num_images": {"LY": 6, "VLY": 6}, "num_patients": 2, "size_px": 24}
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    draw_dataset(right, **settings)
    draw_dataset(wrong, label_error_rate=0.5, split="train", **settings)
    images = [{k: v for k, v in bytes_of(out).items() if k.endswith(".png")} for out in (right, wrong)]
    assert images[0] == images[1]
    assert {row["split"] for row in read_table(wrong / "images.csv")} == {"train"}


@pytest.mark.parametrize(("total", "minimum"), [(13, 1), (260, 12), (1000, 4), (38535, 14)])
def test_imbalanced_counts_add_up(total, minimum):
    counts = imbalanced_counts(total, minimum=minimum)
    assert sum(counts.values()) == total and min(counts.values()) >= minimum and tuple(counts) == CLASSES


# What a user may get wrong


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda out: draw_cell("XX", seed=1), '"XX"'),
        (lambda out: draw_cell("LY", seed=1, size_px=4), "size_px is 4"),
        (lambda out: draw_cell("LY", seed=-1), "seed is -1"),
        (lambda out: draw_cell("LY", seed=1, maturity=0.5), "LY"),
        (lambda out: draw_cell("MY", seed=1, maturity=1.5), "maturity is 1.5"),
        (lambda out: patient_appearance(-1), "seed is -1"),
        (lambda out: imbalanced_counts(12), "12 images"),
        (lambda out: draw_dataset(out, num_images={"XX": 3}), '"XX"'),
        (lambda out: draw_dataset(out, num_images={"LY": -3}), "num_images of LY is -3"),
        (lambda out: draw_dataset(out, num_images={}), "num_images"),
        (lambda out: draw_dataset(out, num_images=5), "5 images"),
        (lambda out: draw_dataset(out, num_patients=0), "num_patients is 0"),
        (lambda out: draw_dataset(out, size_px=2), "size_px is 2"),
        (lambda out: draw_dataset(out, seed=-1), "seed is -1"),
        (lambda out: draw_dataset(out, num_workers=0), "num_workers is 0"),
        (lambda out: draw_dataset(out, label_error_rate=1.0), "label_error_rate is 1.0"),
        (lambda out: draw_dataset(out, num_images={"EO": 20}, label_error_rate=0.2), "neighbouring class"),
    ],
)
def test_a_bad_argument_is_named_before_anything_is_written(call, named, tmp_path):
    with pytest.raises(DataError, match=named) as caught:
        call(tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(StorageError, match=r"thesis\.txt"):
        draw_dataset(tmp_path, num_images={"LY": 2})
    with pytest.raises(StorageError, match="is not a folder"):
        draw_dataset(tmp_path / "thesis.txt", num_images={"LY": 2})
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"
