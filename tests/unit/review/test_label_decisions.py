"""What is stored of decisions on labels: only ever added, refused where stale; decisions.csv is as they stand."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nonet.artifacts.run import Run
from nonet.errors import StorageError
from nonet.review.label_decisions import BY_HAND, LabelDecision, LabelDecisions, StaleDecisionError
from nonet.review.store import Store


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture
def decisions(run):
    return LabelDecisions(run)


def decide(decisions, image_id, decision, label="", *, who="Ada", version=0, **more):
    return decisions.decide(image_id, decision, label, who=who, given="SNE", version=version, **more)


def written(run):
    return pd.read_csv(run.decisions, dtype=str, keep_default_na=False).set_index("image_id")


def test_each_decision_is_in_the_file_in_the_words_of_data_build(run, decisions):
    decide(decisions, "a/1.png", "relabel", "EO", note="granules")
    decide(decisions, "a/2.png", "keep")
    decide(decisions, "a/3.png", "drop", note="two cells")
    decide(decisions, "a/4.png", "unsure", note="blurred")
    decide(decisions, "a/5.png", "unsure")
    table = written(run)
    assert table["decision"].to_dict() == {
        "a/1.png": "relabel",
        "a/2.png": "keep",
        "a/3.png": "drop",
        "a/4.png": "",
        "a/5.png": "",
    }
    assert table["label"].tolist() == ["EO", "", "", "", ""]
    assert table["note"].tolist() == ["granules", "", "two cells", "unsure: blurred", "unsure"]
    assert set(table["who"]) == {"Ada"} and set(table["given"]) == {"SNE"}
    assert decisions.as_csv() == run.decisions.read_text(encoding="utf-8")


def test_a_stale_decision_is_refused_and_says_how_the_image_stands(decisions):
    first = decide(decisions, "a", "keep", who="Ada")
    with pytest.raises(StaleDecisionError, match="Ada") as caught:
        decide(decisions, "a", "drop", who="Ben")
    assert caught.value.stands == first
    second = decide(decisions, "a", "drop", who="Ben", version=first.version)
    assert decisions.standing()["a"] == second
    with pytest.raises(StaleDecisionError):
        decisions.undo(who="Ada")
    assert decisions.undo(who="Ben").decision == "keep", "that of Ada stands again"
    assert decisions.undo(who="Ben") is None
    undone = decisions.undo(who="Ada")
    assert (undone.decision, undone.version > second.version) == ("", True)
    with pytest.raises(StaleDecisionError):
        decide(decisions, "a", "keep", version=0)


def test_undo_goes_back_decision_by_decision(run, decisions):
    decide(decisions, "a", "keep")
    again = decide(decisions, "b", "drop")
    decide(decisions, "b", "relabel", "LY", version=again.version)
    assert decisions.undo(who="Ada").decision == "drop"
    assert decisions.undo(who="Ada").image_id == "b"
    assert written(run).index.tolist() == ["a"]
    assert decisions.undo(who="Ada").image_id == "a"
    assert written(run).empty
    assert decisions.undo(who="Ada") is None


def test_the_file_itself_refuses_to_change_or_forget(run, decisions):
    decide(decisions, "a", "keep")
    with sqlite3.connect(run.reviews) as connection:
        for change in ("UPDATE label_decisions SET who = 'x'", "DELETE FROM label_decisions"):
            with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
                connection.execute(change)
        for values in ("'maybe', '', NULL", "'relabel', '', NULL", "'keep', 'EO', NULL", "'undo', '', NULL"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(
                    "INSERT INTO label_decisions (at, who, image_id, sha256, given, decision, label, undoes, note) "
                    f"VALUES ('', '', '', '', '', {values}, '')"
                )


def test_reviews_of_cases_are_in_the_same_file(run, decisions):
    store = Store(run.reviews)
    decide(decisions, "a", "keep")
    assert store.cases() == []
    assert LabelDecisions(run).standing()["a"].decision == "keep"


def test_what_somebody_wrote_into_the_issues_is_taken_in_once(run, decisions):
    by_hand = LabelDecision("a", "SNE", "drop", "", "two cells")
    assert decisions.take_in([by_hand], {"a": "0" * 64}) == 1
    assert decisions.take_in([by_hand], {}) == 0
    stands = decisions.standing()["a"]
    assert (stands.decision, stands.note, stands.who) == ("drop", "two cells", BY_HAND)
    later = decide(decisions, "a", "keep", version=stands.version)
    assert decisions.take_in([by_hand], {}) == 0
    assert decisions.standing()["a"] == later, "what was decided on the page later stays"
    assert decisions.take_in([LabelDecision("a", "SNE", "relabel", "EO")], {}) == 1
    assert written(run).loc["a", "label"] == "EO"


def test_an_edited_file_is_kept_and_not_read(run, decisions, caplog):
    decide(decisions, "a", "keep")
    edited = run.decisions.read_text(encoding="utf-8").replace("keep", "drop")
    run.decisions.write_text(edited, encoding="utf-8")
    decide(decisions, "b", "drop")
    assert written(run)["decision"].tolist() == ["keep", "drop"]
    assert (run.decisions.parent / "decisions.edited.csv").read_text(encoding="utf-8") == edited
    assert decisions.edited_copies() == ["decisions.edited.csv"]
    assert "was edited" in caplog.text
    run.decisions.write_text("x", encoding="utf-8")
    decisions.write()
    assert decisions.edited_copies() == ["decisions.edited-2.csv", "decisions.edited.csv"]


def test_a_file_that_was_lost_is_written_again(run, decisions):
    decisions.write()
    assert not run.decisions.exists(), "nothing was decided"
    decide(decisions, "a", "keep")
    text = run.decisions.read_text(encoding="utf-8")
    run.decisions.unlink()
    LabelDecisions(run).write()
    assert run.decisions.read_text(encoding="utf-8") == text
    assert decisions.edited_copies() == []


def test_a_decision_is_stored_even_where_the_table_cannot_be_written(run, decisions):
    run.decisions.mkdir(parents=True)
    with pytest.raises(StorageError):
        decide(decisions, "a", "keep")
    assert decisions.standing()["a"].decision == "keep"
    run.decisions.rmdir()
    decisions.write()
    assert written(run).index.tolist() == ["a"]


ODD = ["=1+1", "@x", "a,b", 'say "no"', "Müller\n2", "\u202eabc", "-1", "'=1", "a\tb", "🩸" * 50]


def test_odd_notes_and_names_come_back_as_they_were(run, decisions):
    from nonet.artifacts.csv_files import read_csv

    for place, text in enumerate(ODD):
        decide(decisions, f"{place:02d} {text}", "keep", who=text, note=text)
    assert not any(line.startswith(("=", "@")) for line in run.decisions.read_text(encoding="utf-8").splitlines())
    table = read_csv(run.decisions, dtype=str, keep_default_na=False)
    assert table["note"].tolist() == ODD
    assert table["who"].tolist() == ODD
    assert [one.note for _, one in sorted(decisions.standing().items())] == ODD


WRITER = """
import sys
from nonet.artifacts.run import Run
from nonet.review.label_decisions import LabelDecisions
decisions = LabelDecisions(Run(sys.argv[1]))
for number in range(10_000):
    decisions.decide(f"{sys.argv[2]}/{number}", "keep", who=sys.argv[2], given="SNE", version=0)
    print(number, flush=True)
"""


@pytest.mark.kill
def test_killed_while_two_decide_nothing_that_was_said_to_be_saved_is_lost(run):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, run.folder, who], stdout=subprocess.PIPE, text=True)
        for who in ("Ada", "Ben")
    ]
    for writer in writers:
        while int(writer.stdout.readline()) < 15:
            pass
    said = {}
    for writer, who in zip(writers, ("Ada", "Ben")):
        writer.kill()
        said[who] = [line for line in writer.communicate()[0].split("\n")[:-1] if line]
    decisions = LabelDecisions(run)
    decisions.write()
    standing = decisions.standing()
    for who, numbers in said.items():
        last = int(numbers[-1]) if numbers else 15
        assert all(f"{who}/{number}" in standing for number in range(last + 1))
    assert set(written(run).index) == set(standing)
    assert decisions.edited_copies() == [], "a file that was written by the page is not taken for an edited one"


def test_the_schema_is_part_of_the_package():
    import nonet.review

    assert (Path(nonet.review.__file__).parent / "label_decisions.sql").is_file()
