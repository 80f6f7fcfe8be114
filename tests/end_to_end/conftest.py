"""One small study, by the command line as a user would, that the tests of this folder share."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

#: Nine members as in the paper's ensemble, as small as they get.
TINY = ["--set", "train.epochs=1", "--set", "models.image_size_px=32", "--set", "train.batch_size=16"]


def in_process_of_its_own(*words, cwd=None):
    """Run the program in a process of its own: (exit status, what it printed, what it said on stderr)."""
    command = [sys.executable, "-m", "nonet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | {"COLUMNS": "200"})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def succeed(*words, cwd=None):
    status, out, err = in_process_of_its_own(*words, cwd=cwd)
    assert status == 0, err
    return out


class Study:
    """Drawn cells, the dataset, folds edited by hand, the run and its evaluation, and what each command printed."""

    def __init__(self, folder: Path):
        import nonet

        self.cells = nonet.draw_dataset(folder / "cells", num_images=150, num_patients=12, size_px=48, seed=3)
        self.dataset, self.run = folder / "dataset", folder / "run"
        self.built = succeed("data", "build", f"drawn=csv:{self.cells / 'images.csv'}", "--out", self.dataset)
        self.folded = succeed("data", "folds", self.dataset, "--seed", 4)
        self.folds = self._swap_two_folds()
        self.trained = succeed("train", "demo", self.dataset, "--out", self.run, *TINY)
        self.evaluated = succeed("evaluate", self.run, "--resamples", 50)

    def _swap_two_folds(self) -> pd.DataFrame:
        """Edit folds.csv as a person might: what was fold 0 is fold 1, and the other way round."""
        folds = pd.read_csv(self.dataset / "folds.csv")
        folds["fold"] = folds["fold"].map({0: 1, 1: 0, 2: 2})
        folds.to_csv(self.dataset / "folds.csv", index=False)
        return folds.set_index("image_id")["fold"]


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Shared: read it; copy before changing anything in it."""
    return Study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def nonet_command():
    """A function that runs the program with these words: (exit status, stdout, stderr)."""
    return in_process_of_its_own
