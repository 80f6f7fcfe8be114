"""issues.csv as the page reads it, edited ones included, and what is shown of it."""

import pandas as pd
import pytest

from helpers.issue_runs import make_doubted_run, write_issues
from nonet.artifacts.csv_files import write_csv
from nonet.data.run_images import RunImages
from nonet.errors import DataError
from nonet.review.label_issues import (
    Filter,
    IssueQueue,
    NoIssuesError,
    NoPictureError,
    read_issues,
)
from nonet.review.records import NotFoundError


@pytest.fixture
def doubted(tmp_path):
    return make_doubted_run(tmp_path)


def edit(run, **cells):
    """Write values into rows of issues.csv: column=(row, value)."""
    table = pd.read_csv(run.issues, dtype=str, keep_default_na=False)
    for column, (row, value) in cells.items():
        table.loc[row, column] = value
    write_csv(run.issues, table)
    return table


def test_issues_are_those_of_the_file_with_their_neighbours(doubted):
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    rows, num, num_left = queue.select(Filter())
    assert num == num_left == len(rows) == len(doubted.truth) > 6
    table = pd.read_csv(doubted.run.issues)
    assert [issue.image_id for issue, _ in rows] == table["image_id"].tolist()
    assert [issue.suggested for issue, _ in rows] == table["suggested"].tolist()
    first = rows[0][0]
    assert (first.rank, first.given_confidence, first.suggested_confidence) == (1, 0.05, 0.9)
    labels = doubted.dataset.manifest.set_index("image_id")["label"]
    assert len(first.given_neighbours) == len(first.suggested_neighbours) == 3
    assert {labels[one] for one in first.suggested_neighbours} == {first.suggested}


def test_filters_narrow_what_is_shown_and_counts_follow(doubted):
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    everything = [issue for issue, _ in queue.select(Filter())[0]]
    pair = everything[0].pair
    rows, num, _ = queue.select(Filter(pair=pair))
    assert {issue.pair for issue, _ in rows} == {pair} and num == sum(one.pair == pair for one in everything)
    patient = everything[0].patient
    assert {issue.patient for issue, _ in queue.select(Filter(patient=patient))[0]} == {patient}
    lymphoid, num, _ = queue.select(Filter(lineage="lymphopoiesis"))
    assert num == len(lymphoid) == sum("LY" in (one.given, one.suggested) for one in everything)
    assert queue.select(Filter(source="drawn"))[1] == len(everything)
    assert queue.select(Filter(source="elsewhere")) == ([], 0, 0)
    queue.decisions.decide(everything[0].image_id, "keep", who="Ada", given="SNE", version=0)
    rows, num, num_left = queue.select(Filter(state="decided"))
    assert [issue.image_id for issue, _ in rows] == [everything[0].image_id]
    assert (num, num_left) == (len(everything), len(everything) - 1)
    assert len(queue.select(Filter(state="all"))[0]) == len(everything)
    assert len(queue.select(Filter(state="open"), after=2, limit=3)[0]) == 3
    assert queue.select(Filter(), after=2, limit=3)[0][0][0].rank == 3


def test_a_new_list_is_read_and_decisions_of_images_that_are_still_there_stay(doubted):
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    first, second, third = [issue for issue, _ in queue.select(Filter())[0]][:3]
    for issue in (first, second):
        queue.decisions.decide(issue.image_id, "keep", who="Ada", given=issue.given, version=0)
    write_issues(doubted.run, doubted.dataset.manifest, {one.image_id: one.suggested for one in (third, second)})
    rows, _, num_left = queue.select(Filter(state="all"))
    assert [issue.image_id for issue, _ in rows] == [third.image_id, second.image_id]
    assert [stands.decision for _, stands in rows] == ["", "keep"] and num_left == 1
    assert first.image_id in doubted.run.decisions.read_text(encoding="utf-8"), "it was decided all the same"
    with pytest.raises(NotFoundError):
        queue.issue(first.image_id)


def test_decisions_in_the_file_itself_become_decisions_of_the_queue(doubted):
    edit(doubted.run, decision=(0, "Drop"), note=(0, "two cells"))
    edit(doubted.run, decision=(1, "relabel"), label=(1, "eosinophil"))
    edit(doubted.run, decision=(2, "perhaps"))
    edit(doubted.run, label=(3, "EO"))
    edit(doubted.run, note=(4, "looks fine"))
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    rows, _, _ = queue.select(Filter(state="all"))
    shown = [(stands.decision, stands.label, stands.note) for _, stands in rows][:5]
    assert shown == [("drop", "", "two cells"), ("relabel", "EO", ""), ("", "", ""), ("", "", ""), ("", "", "")]
    assert queue.load().lines_not_understood == [4, 5]
    stands = rows[0][1]
    queue.decisions.decide(stands.image_id, "keep", who="Ada", given="SNE", version=stands.version)
    edit(doubted.run, note=(5, "read again"))
    assert queue.select(Filter(state="all"))[0][0][1].decision == "keep"


def test_rows_of_other_images_or_classes_are_left_out_and_counted(doubted):
    table = edit(doubted.run, image_id=(0, "drawn/elsewhere.png"))
    edit(doubted.run, suggested=(1, "NRBC"))
    edit(doubted.run, image_id=(2, ""))
    edit(doubted.run, image_id=(4, table["image_id"][3]))
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    found = queue.load()
    assert found.num_unknown == 3
    assert len(found.issues) == len(table) - 4, "an image that is listed twice is shown once"
    assert [issue.rank for issue in found.issues.values()] == [*range(1, len(found.issues) + 1)]


def test_a_file_with_little_in_it_is_enough(doubted):
    table = pd.read_csv(doubted.run.issues)
    write_csv(doubted.run.issues, table[["suggested", "image_id", "given"]])
    rows, num, _ = IssueQueue(doubted.run, doubted.dataset.classes).select(Filter())
    assert num == len(table)
    assert (rows[0][0].patient, rows[0][0].given_confidence, rows[0][0].given_neighbours) == ("", None, ())


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "2", "x", "", "1e400"])
def test_a_probability_that_is_none_is_left_out(doubted, text):
    edit(doubted.run, self_confidence=(0, text))
    assert IssueQueue(doubted.run, doubted.dataset.classes).select(Filter())[0][0][0].given_confidence is None


@pytest.mark.parametrize(
    "text", ["", "\n", "rank,image_id,given\n1,a,EO\n", "image_id;given;suggested\na;EO;LY\n", "\0" * 300, '"a\nb']
)
def test_what_is_no_list_is_refused_with_what_to_do(doubted, text):
    doubted.run.issues.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        IssueQueue(doubted.run, doubted.dataset.classes).load()
    assert "issues.csv" in caught.value.message


def test_a_list_without_rows_has_none(doubted):
    write_csv(doubted.run.issues, pd.read_csv(doubted.run.issues).head(0))
    assert IssueQueue(doubted.run, doubted.dataset.classes).select(Filter()) == ([], 0, 0)


def test_a_run_without_a_list_says_which_command_makes_it(doubted):
    doubted.run.issues.unlink()
    with pytest.raises(NoIssuesError) as caught:
        IssueQueue(doubted.run, doubted.dataset.classes).load()
    assert "nonet issues" in caught.value.hint


def test_pictures_are_those_of_the_dataset_and_of_named_images_only(doubted):
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    issue = queue.select(Filter())[0][0][0]
    for image_id in (issue.image_id, issue.given_neighbours[0]):
        path, sha256 = queue.picture(image_id)
        assert path == str(doubted.dataset.image_path(image_id)) and len(sha256) == 64
    named = queue.load().images
    other = next(one for one in doubted.dataset.manifest["image_id"] if one not in named)
    for image_id in (other, "../../etc/passwd", str(doubted.dataset.image_path(other)), ""):
        with pytest.raises(NotFoundError):
            queue.picture(image_id)


def test_a_dataset_that_was_moved_is_said_and_found_again(doubted, tmp_path):
    doubted.dataset.folder.rename(tmp_path / "moved")
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    issue = queue.select(Filter())[0][0][0]
    assert str(doubted.dataset.folder) in queue.images().problem
    with pytest.raises(NoPictureError):
        queue.picture(issue.image_id)
    (tmp_path / "moved").rename(doubted.dataset.folder)
    assert queue.images(again=True).problem == ""
    assert queue.picture(issue.image_id)


def test_a_run_whose_manifest_is_gone_has_issues_and_no_pictures(doubted):
    doubted.run.manifest.unlink()
    queue = IssueQueue(doubted.run, doubted.dataset.classes)
    assert queue.select(Filter())[1] == len(doubted.truth)
    assert "manifest.parquet" in queue.images().problem
    assert RunImages(doubted.run).find("x") is None


def test_many_issues_are_read_and_shown(tmp_path, doubted):
    num = 20_000
    rows = pd.DataFrame({"image_id": [f"drawn/{i}.png" for i in range(num)], "given": "EO", "suggested": "LY"})
    write_csv(tmp_path / "issues.csv", rows)
    found = read_issues(tmp_path / "issues.csv", ["EO", "LY"], rows["image_id"])
    assert len(found.issues) == num and found.choices["pair"] == [("EO → LY", num)]
