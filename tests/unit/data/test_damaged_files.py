"""Files of a dataset that are damaged, or of another shape than nonet writes: an error in words, no traceback."""

import json
import random
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from helpers.pictures import draw_pictures
from nonet.data.build import build_dataset
from nonet.data.dataset_record import summarise_dataset
from nonet.data.folds import make_folds, read_folds, write_folds
from nonet.data.manifest import Dataset
from nonet.errors import DataError, NonetError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return build_dataset(f"csv:{draw_pictures(folder / 'pictures', {'EO': 6, 'LY': 6})}", folder / "dataset")


@pytest.fixture
def dataset(whole, tmp_path):
    return Dataset.open(shutil.copytree(whole.folder, tmp_path / "dataset"))


def use(folder):
    """Do with a dataset what training does before it reads an image."""
    opened = Dataset.open(folder)
    opened.summary(), opened.fingerprint(), opened.paths(), summarise_dataset(opened)
    make_folds(opened.manifest, num_folds=2)


@pytest.mark.parametrize("file", ["dataset.json", "checks.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "\x00"])
def test_invalid_json_is_named(dataset, file, text):
    (dataset.folder / file).write_text(text)
    with pytest.raises(DataError, match=file):
        use(dataset.folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "later nonet"),
        ({"format_version": None}, "format_version"),
        ({"format_version": "1"}, "format_version"),
        ({"format_version": True}, "format_version"),
        ({"classes": ["LY", "EO"]}, "alphabetical"),
        ({"classes": "EO"}, "classes"),
        ({"classes": [1, 2]}, "classes"),
        ({"classes": ["EO"]}, "label 'LY'"),
        ({"roots": {}}, "source"),
        ({"roots": []}, "roots"),
        ({"notes": None}, "notes"),
        ({"checks": 5}, "checks"),
    ],
)
def test_a_dataset_json_that_does_not_fit_is_refused(dataset, change, words):
    file = dataset.folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=words):
        use(dataset.folder)


@pytest.mark.parametrize("file", ["dataset.json", "manifest.parquet", "excluded.csv", "checks.json"])
def test_flipped_bits_and_cuts_give_no_traceback(dataset, file):
    rng, path = random.Random(file), dataset.folder / file
    whole = path.read_bytes()
    for _ in range(25):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 4])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.3 else content)
        try:
            use(dataset.folder)
        except NonetError as error:
            assert error.message


@pytest.mark.parametrize("column", ["image_id", "path", "label", "source", "evaluate", "sha256"])
@pytest.mark.parametrize("value", [None, 7, np.inf, "?"])
def test_a_manifest_of_another_shape_gives_no_traceback(dataset, column, value):
    file = dataset.folder / "manifest.parquet"
    table = pd.read_parquet(file)
    table[column] = [value] * len(table)
    table.to_parquet(file, index=False)
    try:
        use(dataset.folder)
    except NonetError as error:
        assert error.message
    table.drop(columns=column).to_parquet(file, index=False)
    with pytest.raises(DataError, match=r"manifest\.parquet"):
        use(dataset.folder)


@pytest.mark.parametrize(
    "fold", ["Infinity", "1e400", "NaN", "-1", "0x1", "9" * 500, "1." + "0" * 500, "٣", "true", "1.5"]
)
def test_a_fold_that_is_not_a_number_is_named(dataset, tmp_path, fold):
    folds, _ = make_folds(dataset.manifest, num_folds=2)
    write_folds(tmp_path / "folds.csv", folds)
    lines = (tmp_path / "folds.csv").read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 1)[0] + f",{fold}"
    (tmp_path / "folds.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=re.escape(f"folds.csv: fold {fold!r}")):
        read_folds(tmp_path / "folds.csv", dataset.manifest)
