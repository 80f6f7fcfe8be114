"""Checking a dataset: missing, changed and unreadable images are found, and nothing else."""

import pytest
from PIL import Image

from nonet.data.build import build_dataset
from nonet.data.verify import check_dataset
from nonet.errors import DataError

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def dataset(tmp_path):
    for i, name in enumerate(("BA/a.png", "BA/b.png", "EO/a.png", "EO/b.png")):
        (tmp_path / "cells" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (i * 20, 3, 5)).save(tmp_path / "cells" / name)
    return build_dataset(f"folder:{tmp_path / 'cells'}", tmp_path / "out")


def test_untouched_dataset_is_ok(dataset):
    report = check_dataset(dataset.folder)
    assert report.ok and report.problems.empty
    assert list(report.problems.columns) == ["image_id", "path", "problem"]
    assert "all 4 images" in str(report)


@pytest.mark.parametrize("workers", [1, 3])
def test_each_kind_of_trouble_is_found(dataset, workers):
    missing, changed, unreadable, _ = dataset.paths()
    missing.unlink()
    Image.new("RGB", (9, 9), "green").save(changed)
    unreadable.write_bytes(unreadable.read_bytes()[:40])
    report = check_dataset(dataset, num_workers=workers)
    assert not report.ok
    kinds = dict(zip(report.problems["image_id"], report.problems["problem"].str.split(":").str[0]))
    assert kinds == {"cells/BA/a.png": "missing", "cells/BA/b.png": "changed", "cells/EO/a.png": "unreadable"}
    assert "3 of 4 images" in str(report) and str(changed) in str(report)


def test_what_is_not_a_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        check_dataset(tmp_path)
