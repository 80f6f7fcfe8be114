"""Each file that a study writes, and each of its columns, is explained on the page of files."""

from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.end_to_end

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "run-folder.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def predictions(study, nonet_command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions") / "out"
    status, _, err = nonet_command("predict", study.run, study.cells / "images", "--out", folder, "--views", "none")
    assert status == 0, err
    for command in (("count", folder, "--fhir"), ("compare", folder, study.cells / "images.csv")):
        status, out, err = nonet_command(*command)
        assert status == 0, err
        assert "Research use only. Not for diagnostic use." in out
    return folder


def explained(column: str, classes: set[str]) -> bool:
    """Whether the page has a column: by its name, by the score that it bounds, or by what stands before its class."""
    stem, _, last = column.rpartition("_")
    return (
        f"`{column}`" in PAGE
        or (last in ("low", "high") and f"`{stem}`" in PAGE)
        or (last in classes and f"`{stem}_CLASS`" in PAGE)
        or (last == "2" and f"`{stem}_1`" in PAGE)
        or column in classes
    )


def test_every_file_of_dataset_run_and_prediction(study, predictions):
    files = [file for folder in (study.dataset, study.run, predictions) for file in folder.rglob("*") if file.is_file()]
    places = ("cache", "figures", "fhir")  # explained as folders
    unknown = {
        file.name
        for file in files
        if not file.name.startswith(".")
        and not set(file.parts) & set(places)
        and f"`{file.name}`" not in PAGE
        and f"### {file.name}" not in PAGE
    }
    assert not unknown


def test_every_column(study, predictions):
    folds = pd.read_csv(study.dataset / "folds.csv", nrows=0)
    assert list(folds) == ["image_id", "fold"]
    classes = set(pd.read_parquet(study.run / "manifest.parquet")["label"].dropna())
    for folder in (study.dataset, study.run, predictions):
        for file in folder.rglob("*"):
            if file.suffix == ".csv":
                columns = pd.read_csv(file, nrows=0).columns
            elif file.suffix == ".parquet":
                columns = pd.read_parquet(file).columns
            else:
                continue
            missing = [column for column in columns if not explained(column, classes)]
            assert not missing, f"{file.name}: {missing}"
