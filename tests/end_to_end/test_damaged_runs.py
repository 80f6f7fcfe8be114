"""Every file of a finished run, damaged in every way: what each verb says, and that the same training heals it."""

import errno
import shutil
from pathlib import Path

import pytest

import nonet
from nonet.artifacts.run import Run
from nonet.calibration.calibrate import calibrate
from nonet.errors import DamagedError, RunError, StorageError
from nonet.evaluation.run_data import read_run
from nonet.inference.load import load
from nonet.training.launch import train
from nonet.training.member import MemberTraining

pytestmark = pytest.mark.training

MEMBER = "members/vit_mini/fold-1"
VERBS = {
    "predict": lambda run: load(run, accelerator="cpu"),
    "evaluate": read_run,
    "issues": nonet.issues,
    "calibrate": calibrate,
}
#: file → the verbs that refuse it. The others do without: they need it not at all, or only for the report's trimmings.
REFUSED_BY = {
    "recipe.toml": {"predict", "evaluate", "issues", "calibrate"},
    "provenance.json": {"predict", "evaluate", "issues", "calibrate"},
    "ensemble.json": {"predict", "evaluate", "issues", "calibrate"},
    "checksums.json": {"evaluate", "issues", "calibrate"},
    "manifest.parquet": {"evaluate", "issues", "calibrate"},
    "folds.csv": {"evaluate", "issues", "calibrate"},
    "oof.parquet": {"evaluate", "issues", "calibrate"},
    "dataset_record.json": set(),
    "samples.npz": set(),
    f"{MEMBER}/DONE": {"predict"},
    f"{MEMBER}/weights.safetensors": {"predict"},
    f"{MEMBER}/oof.parquet": set(),
    f"{MEMBER}/features.npz": set(),
    f"{MEMBER}/ood.npz": set(),
    f"{MEMBER}/history.jsonl": set(),
}
#: Files that cost their member a second training: it is deterministic, so they come back to the bit.
TRAINED_AGAIN = {f"{MEMBER}/{name}" for name in ("weights.safetensors", "oof.parquet", "features.npz", "ood.npz")}


def delete(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero_a_block(path):
    content = bytearray(path.read_bytes())
    start = len(content) // 3
    content[start : start + max(8, len(content) // 10)] = bytes(max(8, len(content) // 10))
    path.write_bytes(content[: path.stat().st_size])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def replace_by_anothers(path):
    """By the file of the other fold; or, of the run's own, by one that is sound and not the run's."""
    other = path.parent.parent / "fold-0" / path.name
    if other.exists():
        shutil.copy(other, path)
    else:
        path.write_bytes({".json": b'{"format_version": 1}', ".csv": b"image_id,fold\n"}.get(path.suffix, b"name = 1"))


FAULTS = [delete, truncate, zero_a_block, flip_a_bit, replace_by_anothers]


@pytest.fixture
def copy(tiny_run, tmp_path):
    return Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))


@pytest.fixture
def heal(make_recipe, tiny_dataset, monkeypatch):
    """Train again; return which members were trained."""
    real, trained = MemberTraining.run, []

    def counted(training):
        trained.append(training.member.name)
        real(training)

    monkeypatch.setattr(MemberTraining, "run", counted)

    def again(run):
        train(make_recipe(), tiny_dataset, out=run, accelerator="cpu")
        return trained

    return again


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", REFUSED_BY)
def test_damage_is_noticed_by_what_reads_it_and_repaired_by_training(copy, tiny_run, heal, file, fault):
    if (file, fault) == ("ensemble.json", flip_a_bit):
        pytest.skip("people may edit it, so that a sentence changed in it is no damage")
    fault(copy.folder / file)
    for name, verb in VERBS.items():
        if name in REFUSED_BY[file]:
            with pytest.raises(RunError) as caught:
                verb(copy)
            assert Path(file).name in caught.value.message or file == "ensemble.json" or file.endswith("DONE")
            assert "nonet train" in caught.value.hint
        else:
            verb(copy)
    assert heal(copy) == (["vit_mini/fold-1"] if file in TRAINED_AGAIN else [])
    load(copy, accelerator="cpu")
    read_run(copy)
    if Path(file).name in ("history.jsonl", "provenance.json", "checksums.json"):
        return  # gone for good; of today; with today's sums
    assert (copy.folder / file).read_bytes() == (tiny_run.folder / file).read_bytes()


@pytest.mark.parametrize("file", REFUSED_BY)
def test_a_file_that_cannot_be_read_now_is_kept_and_nothing_is_trained_for_it(
    copy, tiny_run, heal, monkeypatch, file, caplog
):
    closed, real = copy.folder / file, Path.open

    def refuse(path, *arguments, **options):
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    trained = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for name, verb in VERBS.items():
            if name in REFUSED_BY[file]:
                with pytest.raises(RunError, match="Permission denied") as caught:
                    verb(copy)
                assert not isinstance(caught.value, DamagedError)
                assert "keep it" in caught.value.hint
            else:
                verb(copy)
        try:
            trained = heal(copy)
        except RunError as error:
            assert "cannot be read now" in error.message
        assert trained == []
    assert closed.read_bytes() == (tiny_run.folder / file).read_bytes()
    for verb in VERBS.values():
        verb(copy)


@pytest.mark.parametrize("file", ["recipe.toml", "ensemble.json", "oof.parquet", f"{MEMBER}/weights.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_reported_and_kept(copy, heal, file):
    """Docker makes one where a file that it should mount is missing."""
    whole = (copy.folder / file).read_bytes()
    (copy.folder / file).unlink()
    (copy.folder / file).mkdir()
    (copy.folder / file / "mine.txt").write_text("mine")
    for verb in (VERBS["evaluate" if file == "oof.parquet" else "predict"], heal):
        with pytest.raises((RunError, StorageError), match=Path(file).name):
            verb(copy)
    assert (copy.folder / file / "mine.txt").read_text() == "mine"
    shutil.rmtree(copy.folder / file)
    (copy.folder / file).write_bytes(whole)
    assert heal(copy) == []


def test_several_files_damaged_at_once_are_healed_at_once(copy, tiny_run, heal):
    for file in REFUSED_BY:
        if file != f"{MEMBER}/DONE":
            flip_a_bit(copy.folder / file)
    assert heal(copy) == ["vit_mini/fold-1"]
    for verb in VERBS.values():
        verb(copy)


def test_a_whole_member_of_a_run_that_lost_its_own_files_is_kept(copy, tiny_run, heal):
    for path in copy.folder.iterdir():
        if path.is_file():
            path.unlink()
    assert heal(copy) == []
    for verb in VERBS.values():
        verb(copy)


def test_members_of_another_run_are_not_taken_over(copy, tiny_dataset, make_recipe, heal, tmp_path):
    """Of the same architecture and fold, whole in itself, and trained otherwise."""
    other = train(make_recipe("train.seed=1"), tiny_dataset, out=tmp_path / "other", accelerator="cpu")
    shutil.rmtree(copy.folder / MEMBER)
    shutil.copytree(other.folder / MEMBER, copy.folder / MEMBER)
    with pytest.raises(DamagedError, match="belongs to another run"):
        load(copy, accelerator="cpu")
