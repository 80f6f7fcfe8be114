"""Commands that need a folder of this machine refuse the address of an object store."""

import pytest


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {url}",
        "calibrate {url}",
        "issues {url}",
        "data build folder:. --out {url}",
        "data check {url}",
        "data folds {url}",
        "compare {url} reference.csv",
        "count {url}",
        "table {url}",
        "serve {url}",
        "demo {url}",
    ],
)
def test_what_needs_a_folder_says_so(words, refused, tmp_path, monkeypatch):
    """And makes no folder named "s3:"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EO").mkdir()
    (tmp_path / "reference.csv").write_text("path,label\n")
    assert "s3://bucket/run" in refused(*words.format(url="s3://bucket/run").split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EO", "reference.csv"]
