"""What is wrong with a command is reported before torch is imported: here importing torch is an error."""

import json
import subprocess
import sys

import pytest

from helpers.sealing import seal

COMMANDS = [
    "trian demo {dataset} --out {tmp}/r",
    "train dmeo {dataset} --out {tmp}/r",
    "train {tmp}/none.toml {dataset} --out {tmp}/r",
    "train demo {tmp}/none --out {tmp}/r",
    "train demo {run} --out {tmp}/r",
    "train demo {dataset} --out {tmp}/notes.txt",
    "train demo {dataset} --out {tmp}/other",
    "train demo {dataset} --out {tmp}/r --set train.epohcs=3",
    "train demo {dataset} --out {tmp}/r --set train.epochs=0",
    "train demo {dataset} --out {tmp}/r --set models.architectures=['vit_maxi']",
    "train demo {dataset} --out {tmp}/r --set models.weights=pretrained",
    "train cpu {dataset} --out {tmp}/r --set models.weight_files={{efficientnet_lite0='{tmp}/none.pth'}}",
    "train demo {dataset} --out {tmp}/r --set models.image_size_px=16",
    "train demo {dataset} --out {tmp}/r --set folds.num_folds=50",
    "train demo {dataset} --out {tmp}/r --accelerator abacus",
    "train demo {dataset} --out {tmp}/r --devices 0",
    "predict {tmp}/none {image} --out {tmp}/p",
    "predict {tmp}/notes.txt {image} --out {tmp}/p",
    "predict {dataset} {image} --out {tmp}/p",
    "predict {tmp}/bare {image} --out {tmp}/p",
    "predict {image} {run} --out {tmp}/p",
    "predict {run} {tmp}/none --out {tmp}/p",
    "predict {run} {tmp}/empty --out {tmp}/p",
    "predict {run} {image} --out {tmp}/notes.txt",
    "predict {run} {image} --out {tmp}/p --views many",
    "predict {run} {image} --out {tmp}/p --split test",
    "predict {run} {image} --out {tmp}/p --accelerator abacus",
    "predict {run} {image} --out {tmp}/p --format wbcbench",
    "predict {run} {image} --out {tmp}/p --format wbcbench --sample-submission {tmp}/none.csv",
    "predict {run} {image} --out {tmp}/p --format wbcbench --sample-submission {tmp}/ids.csv --unreadable-label XX",
    "evaluate {tmp}/none",
    "evaluate {run} --robustness --kinds rain",
    "evaluate {run} --robustness --dataset {tmp}/none",
    "evaluate {run} --robustness --accelerator abacus",
    "evaluate {run} --robustness",
    "calibrate {tmp}/none",
    "calibrate {run} --set calibrate.coverag=0.9",
    "issues {tmp}/none",
    "data build fodler:{tmp}/empty --out {tmp}/d",
    "data build folder:{tmp}/none --out {tmp}/d",
    "data check {tmp}/none",
    "data folds {tmp}/none",
    "recipes show dmeo",
]
CALLS = [
    "nonet.train('dmeo', {dataset!r}, out={tmp!r} + '/r')",
    "nonet.train('demo', {dataset!r}, out={tmp!r} + '/r', accelerator='abacus')",
    "nonet.predict({tmp!r} + '/none', {image!r}, out={tmp!r} + '/p')",
    "nonet.load({tmp!r} + '/none')",
    "nonet.load({run!r}, accelerator='abacus')",
    "nonet.evaluate_robustness({tmp!r} + '/none')",
    "nonet.calibrate({tmp!r} + '/none')",
]
#: Runs commands and calls, one after the other as each start takes a second, and prints what became of them.
SCRIPT = """
import contextlib, io, json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "lightning_fabric"):
            raise SystemError(f"{name} was imported")

sys.meta_path.insert(0, NoTorch())
import nonet
from nonet import cli

def run(command):
    sys.argv = ["nonet", *command]
    cli.main()

def call(text):
    try:
        exec(text)
    except nonet.NonetError:
        sys.exit(2)

results = []
for what in json.load(sys.stdin):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(what) if isinstance(what, list) else call(what)
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException as error:
            status = repr(error)
    results.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def places(tiny_dataset, tmp_path_factory):
    """What words in braces stand for; `run` is a run whose members look trained, and are not."""
    from nonet.artifacts.run import Run
    from nonet.data.folds import make_folds
    from nonet.recipe import load_recipe
    from nonet.training.inputs import begin_run

    tmp = tmp_path_factory.mktemp("places")
    for folder in ("run/members/vit_mini/fold-0", "bare", "other", "empty"):
        (tmp / folder).mkdir(parents=True)
    folds, _ = make_folds(tiny_dataset.manifest, num_folds=2, by="patient", seed=0)
    for run in ("run", "bare"):
        begin_run(Run(tmp / run), load_recipe("demo"), tiny_dataset, folds, [])
    (tmp / "run/members/vit_mini/fold-0/weights.safetensors").touch()
    ensemble = {"classes": tiny_dataset.classes, "members": [{"architecture": "vit_mini", "fold": 0, "weight": 1.0}]}
    (tmp / "run/ensemble.json").write_text(json.dumps(ensemble))
    seal(tmp / "run")
    (tmp / "notes.txt").write_text("notes")
    (tmp / "other/mine.txt").write_text("mine")
    (tmp / "ids.csv").write_text("ID,labels\n0,\n")
    return {"run": tmp / "run", "dataset": tiny_dataset.folder, "image": tiny_dataset.paths()[0], "tmp": tmp}


@pytest.fixture(scope="module")
def results(places):
    """Return command or call → (exit status, stdout, stderr)."""
    asked = {words: [word.format(**places) for word in words.split(" ")] for words in COMMANDS}
    asked |= {text: text.format(**{name: str(place) for name, place in places.items()}) for text in CALLS}
    asked["train"] = ["train", "demo", str(places["dataset"]), "--out", str(places["tmp"] / "begun")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps([*asked.values()]), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(asked, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("words", COMMANDS)
def test_a_mistake_is_reported_without_torch(results, places, words):
    status, out, err = results[words]
    assert (status, out) == (2, ""), err
    assert err.startswith("error: "), err
    for name in ("r", "p", "d"):
        assert not (places["tmp"] / name).exists()


@pytest.mark.parametrize("text", CALLS)
def test_so_is_a_mistake_in_a_python_call(results, text):
    assert results[text][0] == 2


def test_this_would_notice_torch(results):
    assert "was imported" in results["train"][0]
