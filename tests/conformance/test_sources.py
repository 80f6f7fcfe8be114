"""Every entry of SOURCES: what it says of itself is complete, and its labels can be checked by a reader."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nonet
from nonet.cells import CLASSES
from nonet.data.sources import SOURCES
from nonet.data.sources.base import EXTRA_LABELS
from nonet.data.sources.catalogue import label_table
from nonet.data.sources.listing import LeftOut
from nonet.errors import DataError

OWN = ("folder", "csv")
ALL = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
PUBLISHED = pytest.mark.parametrize(
    "source", [s for s in SOURCES.values() if s.name not in OWN], ids=[name for name in SOURCES if name not in OWN]
)


def test_the_sources_of_the_field_are_there():
    assert set(SOURCES) == {
        *OWN,
        *("wbcbench", "wbcbench-hf", "acevedo", "blood8", "cellwiki", "cytologia", "deepapl", "lmu-aml"),
        *("mll23", "mll-bm", "chula", "raabin", "bccd", "bloodmnist"),
    }


@ALL
def test_its_name_is_its_key_and_can_be_written_in_a_spec(source):
    assert SOURCES[source.name] is source
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", source.name)
    assert source.title and source.layout and source.patients and source.paper_words


@PUBLISHED
def test_it_says_where_it_is_published_on_what_terms_and_what_to_cite(source):
    for text in (source.published, source.licence, source.citation, source.by_hand):
        assert text
    assert source.tissue in ("blood", "marrow")
    assert source.labels


@PUBLISHED
def test_each_upstream_label_has_a_code_of_ours_or_a_reason(source):
    for upstream, meaning in source.labels.items():
        if isinstance(meaning, LeftOut):
            assert len(meaning.reason) > 8, upstream
            assert ":" not in meaning.reason, "what stands before a colon is taken for the kind of reason"
            assert meaning.label is None or meaning.label in EXTRA_LABELS
        else:
            assert meaning in CLASSES, upstream
    assert set(source.counts) <= set(source.labels)
    assert not source.parts or sum(source.parts.values()) == source.num_images
    assert len(label_table(source)) == len(source.labels)


@PUBLISHED
def test_counts_add_up_to_the_images(source):
    if source.counts:
        in_test = sum(count for part, count in source.parts.items() if part.endswith("test"))  # it has no labels
        assert sum(source.counts.values()) == source.num_images - in_test


@ALL
def test_what_the_paper_takes_is_among_its_codes(source):
    assert source.paper is None or source.paper <= source.labels.codes()


@PUBLISHED
def test_downloads_are_verified_only_with_a_checksum(source):
    for download in source.downloads:
        assert download.address.startswith(("https://", "hf://datasets/"))
        assert download.evidence
        assert bool(download.file) != bool(download.hub_name)
        if download.checksum:
            kind, digits = download.checksum.split(":")
            assert re.fullmatch(r"[0-9a-f]+", digits) and len(digits) == {"md5": 32, "sha256": 64}[kind]
        assert not download.verified or download.checksum
    variants = [download.variant for download in source.downloads]
    assert len(set(variants)) == len(variants)


@ALL
def test_it_is_described_with_all_that_is_known(source):
    text = nonet.describe_source(source.name)
    plain = " ".join(text.split())
    for part in (source.title, source.licence, source.citation, source.by_hand, *source.notes, *source.labels):
        assert " ".join(part.split()) in plain
    for download in source.downloads:
        assert download.address in text
        assert ("UNVERIFIED" in text) or download.verified
    assert ("NOT BLOOD" in text) == (source.tissue == "marrow")


@ALL
def test_a_path_that_is_not_there_or_empty_or_of_another_layout_is_refused_in_words(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "a" / "b").mkdir(parents=True)
    (tmp_path / "other" / "a" / "b" / "notes.txt").write_text("no image")
    for place in ("missing", "empty", "other"):
        if source.name == "folder" and place == "other":
            continue
        with pytest.raises(DataError) as caught:
            source.read(tmp_path / place, None)
        assert place in caught.value.message


def test_list_has_a_row_for_each(tmp_path):
    table = nonet.list_sources()
    assert list(table["name"]) == list(SOURCES)
    assert table.set_index("name").loc["bloodmnist", "fetch"] == "yes, verified"
    assert table.set_index("name").loc["acevedo", "fetch"] == "yes, not verified"
    assert (table != "").all().drop("images").all()


def test_an_unknown_name_is_answered_with_one_like_it():
    with pytest.raises(DataError, match=r'"acevdo"(.|\n)*"acevedo"'):
        nonet.describe_source("acevdo")


@pytest.mark.slow
def test_reference_page_is_up_to_date():
    script = Path(__file__).parents[2] / "docs" / "make_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
