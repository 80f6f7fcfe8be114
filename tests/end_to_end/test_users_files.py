"""Each command that fills a folder leaves a user's files alone, or refuses the folder before anything is changed."""

import numpy as np
import pytest

import nonet.data.images.decode
from helpers.folders import everything_in
from helpers.pictures import draw_pictures
from nonet.data.build import build_dataset
from nonet.errors import StorageError, UnreadableNowError
from nonet.synthetic.dataset import draw_dataset

MINE = {"dataset.json": '{"name": "BloodCells", "labels": {}}', "folds.csv": "mine", "cache/x": "mine"}
MINE |= {
    "unpacked/a.png": "mine",
    "demo.json": "{}",
    "fetched.json": "[1]",
    "phantom.json": "{}",
    "images/cell_1.png": "mine",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in MINE.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path / "mine"


@pytest.mark.parametrize(
    "words",
    [
        ["data", "build", "folder:{tmp}/pictures", "--out", "{mine}"],
        ["data", "fetch", "bloodmnist", "--out", "{mine}"],
        ["demo", "{mine}"],
    ],
)
def test_commands_refuse_a_folder_with_files_named_like_theirs(folder, tmp_path, words, refused):
    draw_pictures(tmp_path / "pictures", {"EO": 3, "LY": 3})
    before = everything_in(folder)
    assert str(folder) in refused(*(word.format(tmp=tmp_path, mine=folder) for word in words))
    assert everything_in(folder) == before


def test_drawing_again_keeps_what_is_not_drawn(tmp_path):
    draw_dataset(tmp_path / "drawn", num_images={"LY": 4}, num_patients=2)
    (tmp_path / "drawn" / "images" / "mine.png").write_text("mine")
    draw_dataset(tmp_path / "drawn", num_images={"LY": 2}, num_patients=2)
    names = sorted(path.name for path in (tmp_path / "drawn" / "images").iterdir())
    assert names == ["cell_00001.png", "cell_00002.png", "mine.png"]


def test_figures_of_the_user_beside_those_of_an_evaluation_stay(tmp_path):
    from nonet.page.figures import new_figure, svg_text
    from nonet.report.evaluation_files import _remove_stale_figures

    (tmp_path / "mine.svg").write_text("<svg>mine</svg>")
    figure, axes = new_figure(2, 2)
    axes.plot(np.arange(3))
    for name in ("training_curves", "confusion_counts"):
        (tmp_path / f"{name}.svg").write_text(svg_text(figure, name.replace("_", "-")))
    _remove_stale_figures(tmp_path, {"confusion_counts": ""})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion_counts.svg", "mine.svg"]


def test_an_image_that_cannot_be_read_now_is_in_the_dataset_after_the_same_build(tmp_path, monkeypatch):
    table = draw_pictures(tmp_path / "pictures", {"EO": 4, "LY": 4})
    (tmp_path / "pictures" / "LY" / "1.png").write_bytes(b"damaged")
    read_file = nonet.data.images.decode.read_file

    def reading(path, **options):
        if str(path).endswith("EO/0.png"):
            raise UnreadableNowError(f"{path} could not be read now: Stale file handle.")
        return read_file(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(nonet.data.images.decode, "read_file", reading)
        first = build_dataset(f"csv:{table}", tmp_path / "out")
    reasons = first.excluded.set_index("path")["reason"]
    assert reasons["EO/0.png"].startswith("could not be read now")
    assert reasons["LY/1.png"].startswith("unreadable")
    assert "same command" in first.summary()
    second = build_dataset(f"csv:{table}", tmp_path / "out")
    assert (len(first.manifest), len(second.manifest)) == (6, 7)
    assert "same command" not in second.summary()
    assert list(second.excluded["path"]) == ["LY/1.png"]


def test_a_folder_that_is_only_a_link_to_somebodys_is_refused(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(StorageError):
        build_dataset(f"csv:{draw_pictures(tmp_path / 'pictures', {'EO': 3, 'LY': 3})}", tmp_path / "link")
