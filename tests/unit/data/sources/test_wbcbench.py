"""Whether a folder of the challenge is whole, told by part and by class; a part by itself is no fault."""

import re
from collections import Counter
from pathlib import Path

from helpers.layouts import draw
from nonet.data.build import build_dataset
from nonet.data.gather import count_notes
from nonet.data.sources.listing import Listing
from nonet.data.sources.wbcbench import WBCBENCH


def whole_challenge():
    """A listing with as many images of each part and class as the challenge has."""
    listing = Listing(Path(), parts=Counter(WBCBENCH.parts), upstream=Counter(WBCBENCH.counts))
    assert sum(WBCBENCH.counts.values()) == 38535 == WBCBENCH.num_images - WBCBENCH.parts["phase2/test"]
    return listing


def test_whole_challenge_is_complete_without_its_test_too():
    listing = whole_challenge()
    assert count_notes(WBCBENCH, listing) == []
    del listing.parts["phase2/test"]
    assert count_notes(WBCBENCH, listing) == []


def test_what_an_incomplete_challenge_lacks_is_reported_by_part_and_class():
    listing = whole_challenge()
    listing.parts["phase2/train"] -= 3
    listing.upstream["PLY"] -= 2
    listing.upstream["LY"] -= 1
    (note,) = count_notes(WBCBENCH, listing)
    assert "phase2/train 24,894 of 24,897, LY 10,800 of 10,801, PLY 12 of 14" in note


def test_challenge_counts_only_images_that_are_there(challenge, tmp_path):
    (challenge / "phase2/eval/00000500.jpg").unlink()
    draw(challenge / "phase1/000999.jpg", 5)  # in no table
    listing = WBCBENCH.read(challenge)
    assert listing.parts == {"phase1": 5, "phase2/train": 3, "phase2/eval": 0, "phase2/test": 2}
    assert listing.upstream == {"SNE": 5, "BA": 3}
    notes = " ".join(build_dataset(f"wbcbench:{challenge}", tmp_path / "out").notes)
    assert "phase1 5 of 8,288" in notes and "phase2/eval 0 of 5,350" in notes and "PLY 0 of 14" in notes


def test_parts_of_the_challenge_by_themselves_raise_no_alarm_over_classes(challenge, tmp_path, monkeypatch):
    (challenge / "phase2").rename(tmp_path / "away")
    notes = " ".join(build_dataset(f"wbcbench:{challenge}", tmp_path / "out").notes)
    assert "phase2/train, phase2/eval, phase2/test" in notes
    assert "phase1 5 of 8,288" in notes
    assert "phase2/train 0" not in notes and "SNE 5 of" not in notes
    monkeypatch.setitem(WBCBENCH.parts, "phase1", 5)  # whole, and alone
    notes = " ".join(build_dataset(f"wbcbench:{challenge}", tmp_path / "whole").notes)
    assert not re.search(r"\d of \d", notes)
