"""What is wrong with a command is reported before anything heavy is imported: here importing that is an error."""

import json
import shutil
import subprocess
import sys

import pytest

from helpers.sealing import seal

#: Refused before any of these is imported.
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "lightning_fabric",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "skimage",
    "numba",
)
HEAVY += ("matplotlib", "cleanlab", "joblib", "fastapi")
QUICK = [
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
    "train demo {dataset} --out {tmp}/r --set loss.name=focal",
    "train demo {dataset} --out {tmp}/r --set sampling.sampler=unifrom",
    "train demo {dataset} --out {tmp}/r --accelerator abacus",
    "train demo {dataset} --out {tmp}/r --devices 0",
    "demo {tmp}/other",
    "predict {tmp}/none {image} --out {tmp}/p",
    "predict {tmp}/notes.txt {image} --out {tmp}/p",
    "predict {dataset} {image} --out {tmp}/p",
    "predict {tmp}/bare {image} --out {tmp}/p",
    "predict {image} {run} --out {tmp}/p",
    "predict {run} {tmp}/none --out {tmp}/p",
    "predict {run} {tmp}/empty --out {tmp}/p",
    "predict {run} {image} --out {tmp}/notes.txt",
    "predict {run} {image} --out {tmp}/other",
    "predict {run} {image} --out {tmp}/p --views many",
    "predict {run} {image} --out {tmp}/p --split test",
    "predict {run} {image} --out {tmp}/p --case-from file",
    "predict {run} {image} --out {tmp}/p --accelerator abacus",
    "predict {run} {image} --out {tmp}/p --format wbcbench",
    "predict {run} {image} --out {tmp}/p --on ray",
    "predict {run} {image} --out {tmp}/p --on slurm --job partition=gpu",
    "data shard {tmp}/none --out {tmp}/p",
    "data shard {image} --out {tmp}/other",
    "predict {run} {image} --out {tmp}/p --format wbcbench --sample-submission {tmp}/none.csv",
    "predict {run} {image} --out {tmp}/p --format wbcbench --sample-submission {tmp}/ids.csv --unreadable-label XX",
    "evaluate {tmp}/none",
    "evaluate {tmp}/bare",
    "evaluate {run} --confidence 2",
    "evaluate {run} --resamples 0",
    "evaluate {run} --limit 3",
    "evaluate {run} --robustness --kinds rain",
    "evaluate {run} --robustness --corruptions rain",
    "evaluate {run} --robustness --severities 9",
    "evaluate {run} --robustness --dataset {tmp}/none",
    "evaluate {run} --robustness --accelerator abacus",
    "evaluate {run} --robustness",
    "calibrate {tmp}/none",
    "calibrate {tmp}/bare",
    "calibrate {run} --set calibrate.coverag=0.9",
    "calibrate {run} --set train.epochs=3",
    "issues {tmp}/none",
    "issues {tmp}/bare",
    "issues {run} --filter-by doubt",
    "table {run} {tmp}/none",
    "table {run} {tmp}/bare",
    "table {run}",
    "table {run} {run}",
    "table {run} {tmp}/bare --out {tmp}/other",
    "score {tmp}/none {tmp}/ids.csv",
    "score {tmp}/empty {tmp}/ids.csv",
    "score {tmp}/ids.csv {tmp}/none.csv",
    "score {tmp}/ids.csv {tmp}/ids.csv --out {tmp}/other",
    "score {tmp}/ids.csv {tmp}/ids.csv --confidence 2",
    "count {tmp}/none",
    "count {tmp}/empty",
    "count {tmp}/empty --out {tmp}/other",
    "count {tmp}/empty --confidence 2",
    "compare {tmp}/none {tmp}/ids.csv",
    "compare {tmp}/empty {tmp}/ids.csv",
    "compare {tmp}/empty {tmp}/ids.csv --out {tmp}/other",
    "compare {tmp}/empty {tmp}/ids.csv --confidence 2",
    "serve {tmp}/none",
    "serve {tmp}/bare",
    "serve {run} --cases {tmp}/none",
    "serve {run} --cases {tmp}/empty",
    "serve {run} --accelerator abacus",
    "serve {run} --host 0.0.0.0",
    "serve {run} --port 99999",
    "serve {run} --certificate {tmp}/none.pem",
    "serve {run} --translations {tmp}/none.po",
    "backup {tmp}/none --out {tmp}/b.zip",
    "backup {run} --out {tmp}/b.zip",
    "users list {tmp}/none",
    "users add {tmp}/none Ada",
    "users add {run} Ada --password-file {tmp}/none",
    "users add {run} Ada --role king",
    "users remove {run} Ada",
    "users token {run} Ada laptop",
    "data sources nope",
    "data fetch nope --out {tmp}/d",
    "data fetch acevedo --out {tmp}/other",
    "data fetch bloodmnist --out {tmp}/d --variant 3",
    "data build fodler:{tmp}/empty --out {tmp}/d",
    "data build folder:{tmp}/none --out {tmp}/d",
    "data build folder:{tmp}/empty --out {tmp}/d",
    "data build csv:{tmp}/none.csv --out {tmp}/d",
    "data build folder:{pictures} --out {tmp}/other",
    "data build folder:{pictures} --out {tmp}/d --external nope",
    "data build folder:{pictures} --out {tmp}/d --decisions {tmp}/none.csv",
    "data build folder:{pictures} --out {tmp}/d --labels {tmp}/none.csv",
    "data build folder:{pictures} --out {tmp}/d --num-folds 1",
    "data check {tmp}/none",
    "data check {dataset} --num-folds 1",
    "data folds {tmp}/none",
    "data folds {dataset} --num-folds 1",
    "data folds {dataset} --by age",
    "recipes show dmeo",
    "recipes dmeo",
]
#: Refused before torch is imported, but after a table was read, which takes pandas.
READING_TABLES = [
    "train demo {dataset} --out {tmp}/r --set folds.num_folds=50",
    "predict {run} {dataset} --out {tmp}/p --split tset",
]
LISTINGS = ["--help", "predict --help", "recipes", "recipes show demo", "backbones", "data sources", "data sources csv"]
CALLS = [
    "nonet.train('dmeo', {dataset!r}, out={tmp!r} + '/r')",
    "nonet.train('demo', {dataset!r}, out={tmp!r} + '/r', accelerator='abacus')",
    "nonet.predict({tmp!r} + '/none', {image!r}, out={tmp!r} + '/p')",
    "nonet.load({tmp!r} + '/none')",
    "nonet.load({tmp!r} + '/bare')",
    "nonet.load({run!r}, accelerator='abacus')",
    "nonet.evaluate({tmp!r} + '/bare')",
    "nonet.evaluate_robustness({tmp!r} + '/none')",
    "nonet.calibrate({tmp!r} + '/none')",
    "nonet.build_dataset('fodler:' + {tmp!r}, {tmp!r} + '/d')",
    "nonet.count({tmp!r} + '/empty')",
]
#: Runs commands and calls, one after the other as each start takes a second, and prints what became of them.
SCRIPT = """
import contextlib, io, json, sys

class Refuse:
    names = ()

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise SystemError(f"{name} was imported")

refuse = Refuse()
sys.meta_path.insert(0, refuse)
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
for refuse.names, what in json.load(sys.stdin):
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
    for label in ("EO", "LY"):
        (tmp / "pictures" / label).mkdir(parents=True)
        shutil.copy(tiny_dataset.paths()[0], tmp / "pictures" / label)
    return {"run": tmp / "run", "dataset": tiny_dataset.folder, "image": tiny_dataset.paths()[0], "tmp": tmp} | {
        "pictures": tmp / "pictures"
    }


@pytest.fixture(scope="module")
def results(places):
    """Return command or call → (exit status, stdout, stderr)."""
    of = {name: str(place) for name, place in places.items()}
    asked = {words: (HEAVY, [word.format(**of) for word in words.split(" ")]) for words in [*QUICK, *LISTINGS]}
    asked |= {text: (HEAVY, text.format(**of)) for text in CALLS}
    asked["pandas"] = (HEAVY, "import pandas")
    # Only now what is allowed to import pandas, which stays imported.
    asked |= {words: (HEAVY[:4], [word.format(**of) for word in words.split(" ")]) for words in READING_TABLES}
    asked["train"] = (HEAVY[:4], ["train", "demo", of["dataset"], "--out", of["tmp"] + "/begun"])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps([*asked.values()]), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(asked, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("words", [*QUICK, *READING_TABLES])
def test_a_mistake_is_reported_before_heavy_imports(results, places, words):
    status, out, err = results[words]
    assert (status, out) == (2, ""), (status, err)
    assert err.startswith("error: "), err
    for name in ("r", "p", "d"):
        assert not (places["tmp"] / name).exists()


@pytest.mark.parametrize("words", LISTINGS)
def test_help_and_lists_need_nothing_heavy(results, words):
    status, out, err = results[words]
    assert (status, err) == (0, "") and out


@pytest.mark.parametrize("text", CALLS)
def test_so_is_a_mistake_in_a_python_call(results, text):
    assert results[text][0] == 2


def test_this_would_notice_pandas_and_torch(results):
    assert "pandas was imported" in results["pandas"][0]
    assert "was imported" in results["train"][0]
