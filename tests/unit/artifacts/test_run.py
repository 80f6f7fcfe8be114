import json
import stat
import subprocess
import sys

import pytest

from nonet.artifacts.run import (
    Run,
    file_sha256,
    require_same,
    software_and_machine,
    write_json,
    write_text,
    written_whole,
)
from nonet.errors import RunError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError), written_whole(file) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "deep" / "a.txt"
    with written_whole(file) as temporary:
        temporary.write_text("new")
        assert not file.exists()
        assert temporary.suffix == ".txt"  # so that writers that look at the ending do as they would
    assert file.read_text() == "new"


def test_killed_while_writing_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    script = (
        "import os, signal, sys; from pathlib import Path; from nonet.artifacts.run import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert done.returncode == -9
    assert file.read_text() == "old"


def test_files_are_readable_as_the_umask_says(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_json_keeps_what_it_is_given(tmp_path):
    write_json(tmp_path / "a.json", {"naïve": [1, 2.5, None], "path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"naïve": [1, 2.5, None], "path": str(tmp_path)}


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the first test vector of FIPS 180-4
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_members_come_fold_by_fold(tmp_path):
    members = Run(tmp_path).members(("a", "b"), 2)
    assert [m.name for m in members] == ["a/fold-0", "b/fold-0", "a/fold-1", "b/fold-1"]
    assert members[0].folder == tmp_path / "members" / "a" / "fold-0"
    assert not members[0].is_done
    write_json(members[0].done, {})
    assert members[0].is_done


def test_what_changed_is_named(tmp_path):
    kept = {"recipe": "1", "manifest": "2", "folds": "3"}
    require_same(kept, dict(kept), Run(tmp_path))
    with pytest.raises(RunError, match="manifest") as caught:
        require_same(kept, kept | {"manifest": "9"}, Run(tmp_path))
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(RunError, match=r"recipe\b.*\bfolds"):
        require_same(kept, kept | {"recipe": "9", "folds": "9"}, Run(tmp_path))


@pytest.mark.slow
def test_the_environment_names_versions():
    import numpy
    import torch

    versions = software_and_machine()["versions"]
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert versions["numpy"] == numpy.__version__
