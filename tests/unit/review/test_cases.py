"""Folders of predictions become cases: only those of this run, whole, and never under a name that holds another."""

import pytest

from helpers.prediction_folders import write_reviewable, write_run
from nonet.artifacts.run import Run
from nonet.errors import DataError, RunError
from nonet.review.cases import add_cases
from nonet.review.store import Store

CELLS = [("a.png", "7", "SNE"), ("b.png", "7", "unidentified"), ("c.png", "8", "LY"), ("d.png", "7", "")]


@pytest.fixture
def run(tmp_path):
    return Run(write_run(tmp_path / "run"))


@pytest.fixture
def store(run):
    return Store(run.reviews)


def test_each_case_gets_its_cells_with_paths_and_checksums(tmp_path, run, store):
    folder = write_reviewable(tmp_path / "p", run.folder, CELLS)
    assert add_cases(store, run, folder) == 2
    assert run.reviews == run.folder / "review" / "reviews.sqlite"
    eight, seven = store.cases()
    assert (seven.name, seven.num_cells, seven.num_unidentified) == ("7", 2, 1)
    assert (eight.name, eight.num_cells) == ("8", 1)
    cells = store.cells(seven.id)
    assert [cell.image for cell in cells] == ["a.png", "b.png", "d.png"]
    assert [len(cell.sha256) for cell in cells] == [64, 64, 0]
    assert [cell.predicted for cell in cells] == ["SNE", "unidentified", ""]
    assert cells[0].facts["confidence"] == 0.9
    assert cells[0].facts["proba"]["SNE"] == pytest.approx(0.1)
    assert seven.model == eight.model


def test_the_same_folder_again_adds_nothing(tmp_path, run, store):
    folder = write_reviewable(tmp_path / "p", run.folder, CELLS)
    add_cases(store, run, folder)
    assert add_cases(store, run, folder) == 0
    assert len(store.cases()) == 2


def test_a_case_remembers_who_uploaded_it(tmp_path, run, store):
    folder = write_reviewable(tmp_path / "p", run.folder, CELLS)
    assert add_cases(store, run, folder, added_by="Ada") == 2
    assert add_cases(store, run, folder, added_by="Ben") == 0
    assert [case.added_by for case in store.cases()] == ["Ada", "Ada"]


def test_images_without_a_case_are_the_case_of_their_folder(tmp_path, run, store):
    for name in ("first", "second"):
        add_cases(store, run, write_reviewable(tmp_path / name, run.folder, [("a.png", "", "SNE")]))
    assert [case.name for case in store.cases()] == ["second", "first"]


def test_another_case_of_the_same_name_is_refused(tmp_path, run, store):
    add_cases(store, run, write_reviewable(tmp_path / "p", run.folder, CELLS))
    other = write_reviewable(tmp_path / "q", run.folder, [("a.png", "7", "MO")])
    with pytest.raises(DataError, match='Case "7"'):
        add_cases(store, run, other)
    assert store.find_case("7").num_cells == 2


def test_predictions_of_another_run_are_refused(tmp_path, run, store):
    folder = write_reviewable(tmp_path / "p", write_run(tmp_path / "other"), CELLS)
    with pytest.raises(RunError, match="other"):
        add_cases(store, run, folder)
    assert store.cases() == []


def test_another_model_has_another_fingerprint(tmp_path, run, store):
    for name, weights in (("p", "w"), ("q", "v")):
        cells = [("a.png", name, "SNE")]
        add_cases(store, run, write_reviewable(tmp_path / name, run.folder, cells, plan={"weights": weights}))
    assert len({case.model for case in store.cases()}) == 2


@pytest.mark.parametrize("file", ["plan.json", "logits.parquet", "predictions.csv", "images/0.png"])
def test_a_folder_that_lacks_something_is_refused_and_nothing_is_added(tmp_path, run, store, file):
    folder = write_reviewable(tmp_path / "p", run.folder, CELLS)
    (folder / file).unlink()
    with pytest.raises((DataError, RunError)):
        add_cases(store, run, folder)
    assert store.cases() == []


def test_an_unfinished_or_shuffled_prediction_is_refused(tmp_path, run, store):
    import pandas as pd

    from nonet.artifacts.integrity import write_sealed

    folder = write_reviewable(tmp_path / "p", run.folder, CELLS)
    table = pd.read_parquet(folder / "logits.parquet")
    table[::-1].to_parquet(folder / "logits.parquet")
    with pytest.raises(DataError, match="same order"):
        add_cases(store, run, folder)
    table.to_parquet(folder / "logits.parquet")
    write_sealed(folder / "plan.json", {"run": str(run.folder.resolve())})
    with pytest.raises(DataError, match="not finished"):
        add_cases(store, run, folder)


def test_other_classes_are_refused(tmp_path, run, store):
    add_cases(store, run, write_reviewable(tmp_path / "p", run.folder, CELLS))
    with pytest.raises(DataError, match="classes"):
        add_cases(store, run, write_reviewable(tmp_path / "q", run.folder, [("a", "x", "LY")], ("LY", "SNE")))
