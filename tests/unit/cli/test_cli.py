"""Mistakes on the command line: one message, a hint, exit status 2, never a traceback."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nonet import cli
from nonet.recipe import list_recipes, load_recipe


@pytest.fixture
def places(tiny_run, tiny_dataset, tmp_path):
    """What words in braces stand for."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "ids.csv").write_text("ID,labels\n0,\n")
    (tmp_path / "broken.toml").write_text("[models\n")
    return {
        "run": tiny_run.folder,
        "dataset": tiny_dataset.folder,
        "image": tiny_dataset.paths()[0],
        "tmp": tmp_path,
        "missing": tmp_path / "missing",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # words of the command itself
        ("trian", '"train"'),
        ("data buidl", '"build"'),
        ("recipes shwo", '"show"'),
        ("recipes show", "NAME"),
        ("train", "RECIPE"),
        ("train demo", "DATASET"),
        ("train demo {dataset}", "--out"),
        ("train demo {dataset} --out", "--out"),
        ("predict", "RUN"),
        ("predict {run} {image}", "--out"),
        ("predict {run} {image} --out x --formt wbcbench", "--format"),
        ("predict {run} {image} --out x --format wbc", "wbcbench"),
        ("evaluate", "RUN"),
        ("evaluate {run} {run}", '"nonet evaluate"'),
        ("evaluate {run} --resamples many", "--resamples"),
        ("evaluate {run} --seed 1 --seed 2", "--seed"),
        ("evaluate {run} --corruptions noise", "--robustness"),
        ("evaluate {run} --limit 50", "--robustness"),
        ("evaluate {run} --no-views", "--robustness"),
        ("evaluate {run} --workers 2", "--robustness"),
        ("evaluate {run} --robustness --corruptions rain", '"rain"'),
        ("evaluate {run} --robustness --severities 5", "severity 5"),
        ("evaluate {run} --robustness --limit -1", "-1"),
        ("evaluate {run} --robustness --dataset {missing}", "does not exist"),
        ("issues", "RUN"),
        ("issues {run} --filter-by luck", "prune_by_noise_rate"),
        ("data build --out x", "No source"),
        ("data folds {dataset} --by cell", "--by"),
        ("data folds {dataset} --num-folds 1", "1 fold"),
        ("data check {dataset} --num-folds 1", "1 fold"),
        ("data build folder:{tmp} --out {tmp}/d --num-folds 0", "0 fold"),
        # recipes and settings
        ("recipes show papr", "paper"),
        ("recipes show {tmp}/none.toml", "none.toml"),
        ("recipes show {tmp}/broken.toml", "not valid TOML"),
        ("recipes show demo --set train.epohcs=3", "train.epohcs"),
        ("recipes show demo --set train.epochs", "train.epochs"),
        ("train dmeo {dataset} --out {tmp}/r", '"dmeo"'),
        ("train demo {dataset} --out {tmp}/r --set train.epochs=none", "train.epochs"),
        ("train demo {dataset} --out {tmp}/r --set train.epochs=0", "train.epochs"),
        ('train demo {dataset} --out {tmp}/r --set models.architectures=["vit_maxi"]', "vit_maxi"),
        ("train demo {dataset} --out {tmp}/r --set folds.num_folds=50", "50 folds"),
        # one thing for another
        ("train {dataset} demo --out {tmp}/r", "{dataset}"),
        ("train demo {run} --out {tmp}/r", "is not a dataset"),
        ("train demo {missing} --out {tmp}/r", "does not exist"),
        ("train demo {tmp}/empty --out {tmp}/r", "is not a dataset"),
        ("train demo {dataset} --out {run}", "recipe"),
        ("train demo {dataset} --out {tmp}/notes.txt", "notes.txt"),
        ("evaluate {missing}", "does not exist"),
        ("issues {missing}", "does not exist"),
        ("evaluate {dataset}", "is not a nonet run"),
        ("data check {run}", "is not a dataset"),
        ("data check {missing}", "does not exist"),
        ("data folds {tmp}/empty", "is not a dataset"),
        ("data build {tmp}/empty --out {tmp}/d", "is not a source"),
        ("data sources acevdo", '"acevedo"'),
        ("data fetch", "NAME"),
        ("data fetch bloodmnist", "--out"),
        ("data fetch bloodmist --out {tmp}/d", '"bloodmnist"'),
        ("data fetch folder --out {tmp}/d", "folder"),
        ("data fetch lmu-aml --out {tmp}/d", "IBM Aspera Connect"),
        ("data fetch bloodmnist --out {tmp}/d --variant 32", "64, 28, 128, 224"),
        ("data fetch acevedo --out {tmp}/d --variant 2", "--variant"),
        ("data fetch bloodmnist --out {tmp}/notes.txt", "notes.txt"),
        ("data build acevedo:{tmp}/empty --out {tmp}/d", "basophil"),
        ("data build fodler:{tmp}/empty --out {tmp}/d", '"fodler"'),
        ("data build folder:{missing} --out {tmp}/d", "does not exist"),
        ("data build folder:{tmp}/empty --out {tmp}/d", "has no subfolder"),
        ("data build csv:{missing}.csv --out {tmp}/d", "does not exist"),
        ("data build wbcbench:{tmp}/empty --out {tmp}/d", "phase1"),
        ("data build folder:{tmp} --out {tmp}", "{tmp}"),
        ("predict {run} --out {tmp}/p", "no images to predict"),
        ("predict {missing} {image} --out {tmp}/p", "does not exist"),
        ("predict {dataset} {image} --out {tmp}/p", "is not a nonet run"),
        ("predict {image} {run} --out {tmp}/p", "is a run, not images"),
        ("predict {run} {run} --out {tmp}/p", "is a run, not images"),
        ("predict {run} {missing} --out {tmp}/p", "missing"),
        ("predict {run} {tmp}/empty --out {tmp}/p", "contains no image"),
        ("predict {run} {tmp}/*.png --out {tmp}/p", "*.png"),
        ("predict {run} {image} --out {tmp}/notes.txt", "notes.txt"),
        ("predict {run} {image} --out {tmp}/p --views many", "Unknown views"),
        ("predict {run} {image} --out {tmp}/p --views random:0", "Unknown views"),
        ("predict {run} {dataset} --out {tmp}/p --split test", '"test"'),
        ("predict {run} {image} --out {tmp}/p --split test", "--split test"),
        ("predict {run} {image} --out {tmp}/p --accelerator abacus", "abacus"),
        ("predict {run} {image} --out {tmp}/p --format wbcbench", "--sample-submission"),
        ("predict {run} {image} --out {tmp}/p --sample-submission {tmp}/ids.csv", "--format wbcbench"),
        ("predict {run} {image} --out {tmp}/p --format wbcbench --sample-submission {missing}", "{missing}"),
        (
            "predict {run} {image} --out {tmp}/p --format wbcbench --sample-submission {tmp}/ids.csv "
            "--unreadable-label XX",
            "is not a class",
        ),
        ("predict {run} {image} --out {tmp}/p --unreadable-label LY", "--unreadable-label"),
    ],
)
def test_a_wrong_command_is_refused_in_words(refused, places, words, said):
    err = refused(*(word.format(**places) for word in words.split(" ")))
    assert said.format(**places) in err
    assert not (places["tmp"] / "p").exists()
    assert not (places["tmp"] / "d").exists()


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {run} --resamples 0",
        "evaluate {run} --confidence 2",
        "train demo {dataset} --out {tmp}/r --devices 0",
        "train demo {dataset} --out {tmp}/r --devices 99 --accelerator gpu",
        "train demo {dataset} --out {tmp}/r --accelerator abacus",
    ],
)
def test_numbers_that_cannot_be_are_refused_in_words(refused, places, words, tmp_path):
    places["run"] = shutil.copytree(places["run"], tmp_path / "copy")
    refused(*(word.format(**places) for word in words.split(" ")))


@pytest.mark.parametrize(("option", "value"), [("--resamples", 0), ("--confidence", 1.5)])
def test_a_bootstrap_that_cannot_be_is_refused_before_anything_is_scored(refused, places, tmp_path, option, value):
    run = shutil.copytree(places["run"], tmp_path / "copy")
    assert str(value) in refused("evaluate", run, "--robustness", "--limit", 6, option, value)
    assert not list(run.glob("evaluation/robustness*"))


def test_an_unfinished_run_is_refused(refused, places, tmp_path):
    run = shutil.copytree(places["run"], tmp_path / "copy")
    (run / "ensemble.json").unlink()
    (run / "oof.parquet").unlink()
    assert "nonet train" in refused("predict", run, places["image"], "--out", tmp_path / "p")
    assert "nonet train" in refused("evaluate", run)


def test_issues_are_listed_worst_first_and_written(nonet, places, tmp_path):
    run = shutil.copytree(places["run"], tmp_path / "copy")
    status, out, _ = nonet("issues", str(run), "--filter-by", "predicted_neq_given", "--rank-by", "self_confidence")
    assert status == 0
    heading, *rows, where = out.splitlines()
    assert heading.split()[:4] == ["rank", "image_id", "given", "suggested"]
    written = pd.read_csv(run / "evaluation" / "issues.csv")
    assert [row.split()[1] for row in rows] == written["image_id"].head(10).tolist()
    assert str(run / "evaluation" / "issues.csv") in where


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that refuses")
def test_a_folder_that_may_not_be_written_is_an_error_in_words(refused, places, tmp_path):
    (tmp_path / "empty").chmod(0o500)
    assert "Permission denied" in refused("predict", places["run"], places["image"], "--out", tmp_path / "empty" / "p")


def test_recipes_are_listed_and_shown_so_that_they_can_be_read_back(nonet, tmp_path):
    status, out, _ = nonet("recipes")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(list_recipes())
    for name in list_recipes():
        status, out, _ = nonet("recipes", "show", name, "--set", "train.epochs=7", "--set", "train.seed=3")
        assert status == 0
        (tmp_path / f"{name}.toml").write_text(out)
        assert load_recipe(tmp_path / f"{name}.toml") == load_recipe(name, ["train.epochs=7", "train.seed=3"])


@pytest.mark.parametrize("words", [(), ("--help",), ("data",), ("predict", "--help"), ("demo", "-h")])
def test_help_is_given(nonet, words):
    status, out, err = nonet(*words)
    assert status == 0
    assert "Usage: nonet" in out
    assert err == ""


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        ("predict", ["RUN", "IMAGES", "--out", "--views", "--format", "--unreadable-label", "--adapt-priors"]),
        ("calibrate", ["RUN", "--set"]),
        ("train", ["RECIPE", "DATASET", "--out", "--set", "--devices"]),
        ("data build", ["SOURCES", "--out", "--classes", "--external", "--paper"]),
        ("data fetch", ["NAME", "--out", "--variant"]),
        ("issues", ["RUN", "--filter-by", "--rank-by"]),
        ("evaluate", ["RUN", "--resamples", "--confidence", "--robustness", "--dataset", "--limit", "--corruptions"]),
    ],
)
def test_help_names_every_parameter_and_says_what_it_is(nonet, words, parameters):
    out = nonet(*words.split(), "--help")[1]
    for parameter in parameters:
        assert parameter in out


COMMANDS = [
    "",
    *[
        "demo",
        "train",
        "calibrate",
        "evaluate",
        "issues",
        "predict",
        "table",
        "score",
        "backbones",
        "doctor",
        "recipes",
    ],
    "data build",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_takes_the_common_options_and_its_help_says_so(nonet, words):
    out = nonet(*words.split(), "--help")[1]
    assert "--quiet" in out and "--verbose" in out


@pytest.mark.parametrize("words", ["--quiet recipes", "recipes -q", "-v recipes", "recipes --verbose"])
def test_common_options_come_before_or_after_the_command(nonet, words):
    status, out, err = nonet(*words.split())
    assert (status, err) == (0, "")
    assert "recommended" in out


def test_quiet_and_verbose_together_are_refused(refused):
    assert "--verbose" in refused("recipes", "--quiet", "--verbose")


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "nonet", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, cli.nonet.__version__), done.stderr


def test_completion_is_installed_for_a_shell(nonet, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    status, _, err = nonet("--install-completion", "--shell", "bash", "--output", tmp_path / "nonet.bash")
    assert status == 0, err
    script = (tmp_path / "nonet.bash").read_text()
    assert "predict" in script and "--adapt-priors" in script


def test_version_backbones_and_doctor(nonet):
    assert nonet("--version")[1].strip() == cli.nonet.__version__
    status, out, _ = nonet("backbones")
    assert status == 0
    assert {"swinv2_tiny", "vit_mini"} <= {line.split()[0] for line in out.splitlines()}
    status, out, _ = nonet("doctor")
    assert status == 0
    assert "Python" in out


def test_doctor_that_finds_something_missing_has_exit_status_1(nonet, monkeypatch):
    from nonet.diagnostics import Finding, Findings

    findings = Findings((Finding("missing", "timm"),))
    monkeypatch.setattr(importlib.import_module("nonet.diagnostics"), "doctor", lambda: findings)
    status, out, _ = nonet("doctor")
    assert (status, out) == (1, "missing timm\n")


def test_sources_are_listed_and_described(nonet):
    status, out, _ = nonet("data", "sources")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["name", "what", "licence", "images", "patients", "fetch"]
    assert {"acevedo", "bloodmnist", "mll-bm"} <= {line.split()[0] for line in lines}
    assert len({line.index("yes") for line in lines if "yes," in line}) == 1
    status, out, _ = nonet("data", "sources", "mll-bm")
    assert status == 0
    assert "NOT BLOOD" in out and "By hand:" in out


def test_predict_prints_where_the_table_is(nonet, places, tmp_path):
    status, out, _ = nonet("predict", places["run"], places["image"], "--out", tmp_path / "p", "--accelerator", "cpu")
    assert status == 0
    assert out.strip() == f"1 images: {tmp_path / 'p' / 'predictions.csv'}"


@pytest.mark.slow
def test_classes_and_externals_are_lists(nonet, tiny_dataset, tmp_path):
    import nonet as package

    table = Path(tiny_dataset.description["roots"]["cells"]) / "cells.csv"
    for words in (["--classes", "LY,SNE"], ["--classes", "LY", "SNE"], ["--classes", "LY", "--classes", "SNE"]):
        status, _, err = nonet("data", "build", f"csv:{table}", "--out", tmp_path / "d", *words)
        assert status == 0, err
        assert package.Dataset.open(tmp_path / "d").classes == ["LY", "SNE"]


def test_a_stop_by_hand_says_how_to_go_on(nonet, monkeypatch, places):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("nonet.inference.predict"), "predict", stop)
    status, _, err = nonet("predict", places["run"], places["image"], "--out", "p")
    assert status == 130
    assert "ame command again" in err


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's pipe")
def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "nonet", "recipes", "show", "paper"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    err = process.stderr.read().decode()
    process.wait()
    process.stderr.close()
    assert err == ""


@pytest.mark.slow
def test_the_program_is_installed_under_its_name():
    program = shutil.which("nonet", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("nonet is not installed here as a program")
    done = subprocess.run([program, "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and '"trian"' in done.stderr and '"train"' in done.stderr
