"""Fixtures that tests of several sources share."""

import pytest

from helpers.layouts import draw_challenge


@pytest.fixture
def challenge(tmp_path):
    """The challenge's layout in small."""
    return draw_challenge(tmp_path / "wbc")


@pytest.fixture
def without_figures(monkeypatch):
    """Builds write checks.html without its figures, whose drawing takes three quarters of a small build's time."""
    monkeypatch.setattr("nonet.data.checks.page.draw_figures", lambda dataset: {})
