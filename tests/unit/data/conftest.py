"""Fixtures that tests of several sources share."""

import pytest

from helpers.layouts import draw_challenge


@pytest.fixture
def challenge(tmp_path):
    """The challenge's layout in small."""
    return draw_challenge(tmp_path / "wbc")
