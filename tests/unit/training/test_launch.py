import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from tqdm import tqdm

from helpers.networks import member_training
from helpers.pictures import draw_pictures
from nonet.artifacts.run import Run
from nonet.data.build import build_dataset
from nonet.data.folds import make_folds
from nonet.data.manifest import Dataset
from nonet.data.run_images import open_dataset_of
from nonet.errors import DataError, RecipeError, RunError, StorageError, WeightsError
from nonet.models.network import make_classifier
from nonet.recipe import load_recipe
from nonet.training import member as member_module
from nonet.training.inputs import begin_run, get_folds
from nonet.training.launch import train
from nonet.training.member import MemberTraining, learning_rate


def read_history(run, fold=0, architecture="vit_mini"):
    lines = run.member(architecture, fold).history.read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def read_weights(run, fold=0, architecture="vit_mini"):
    return safetensors.torch.load_file(run.member(architecture, fold).weights)


def read_files(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_the_learning_rate_falls_along_a_cosine_between_its_ends():
    rates = [learning_rate(step, 101, first=5e-4, last=5e-6) for step in range(101)]
    assert rates[0] == pytest.approx(5e-4, rel=1e-12)
    assert rates[-1] == pytest.approx(5e-6, rel=1e-12)
    assert rates[50] == pytest.approx((5e-4 + 5e-6) / 2, rel=1e-12)
    assert rates[25] == pytest.approx(5e-6 + (5e-4 - 5e-6) * (1 + math.sqrt(0.5)) / 2, rel=1e-12)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert learning_rate(0, 1, first=5e-4, last=5e-6) == 5e-4


def test_the_learning_rate_rises_evenly_before_the_cosine():
    rates = [learning_rate(step, 110, first=1e-3, last=0, warmup_steps=9) for step in range(110)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 1e-4)
    np.testing.assert_allclose(rates[9:], [learning_rate(step, 101, first=1e-3, last=0) for step in range(101)])


def test_a_run_holds_what_the_design_says(tiny_run, tiny_dataset):
    for file in (
        tiny_run.recipe,
        tiny_run.provenance,
        tiny_run.manifest,
        tiny_run.folds,
        tiny_run.oof,
        tiny_run.ensemble,
    ):
        assert file.is_file()
    for fold in (0, 1):
        member = tiny_run.member("vit_mini", fold)
        assert sorted(p.name for p in member.folder.iterdir()) == [
            "DONE",
            "features.npz",
            "history.jsonl",
            "ood.npz",
            "oof.parquet",
            "weights.safetensors",
        ]
    provenance = json.loads(tiny_run.provenance.read_text())
    assert provenance["classes"] == tiny_dataset.classes
    assert provenance["fingerprints"]["manifest"] == tiny_dataset.fingerprint()


def test_the_dataset_is_found_from_any_folder(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_dataset.folder.parent)
    dataset, run = Dataset.open(tiny_dataset.folder.name), Run(tmp_path / "run")
    folds, notes = get_folds(make_recipe(), dataset)
    begin_run(run, make_recipe(), dataset, folds, notes)
    monkeypatch.chdir(tmp_path)
    assert open_dataset_of(run).fingerprint() == tiny_dataset.fingerprint()


def test_each_image_is_predicted_by_the_member_that_never_saw_it(tiny_run, tiny_dataset):
    oof, folds = pd.read_parquet(tiny_run.oof), pd.read_csv(tiny_run.folds)
    fold_by_image = dict(zip(folds["image_id"], folds["fold"]))
    assert set(oof["view_set"]) == {"none", "dihedral"}
    for _, rows in oof.groupby("view_set"):
        assert sorted(rows["image_id"]) == sorted(tiny_dataset.manifest["image_id"])
        assert (rows["fold"] == rows["image_id"].map(fold_by_image)).all()
    logits = oof[[f"logit_{code}" for code in tiny_dataset.classes]]
    assert np.isfinite(logits.to_numpy()).all()
    assert (logits.dtypes == np.float32).all()


def test_the_logits_kept_are_those_of_the_weights_kept(tiny_run, tiny_dataset, make_recipe):
    from nonet.data.preprocess.crop import Crop
    from nonet.data.preprocess.crops import prepare_crops

    recipe = make_recipe()
    network, _ = make_classifier("vit_mini", recipe.models, 3)
    network.load_state_dict(read_weights(tiny_run, 1))
    rows = pd.read_parquet(tiny_run.oof).query("fold == 1 and view_set == 'none'")
    images = [prepare_crops(tiny_dataset.image_path(i), [Crop(16)], recipe.denoise)[Crop(16)] for i in rows["image_id"]]
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float())
    stored = rows[[f"logit_{code}" for code in tiny_dataset.classes]].to_numpy()
    np.testing.assert_allclose(logits.numpy(), stored, atol=1e-4)


def test_history_has_a_line_an_epoch_and_the_cosines_last_rate(tiny_run, make_recipe):
    settings = make_recipe().optimiser
    history = read_history(tiny_run)
    assert [line["epoch"] for line in history] == [0, 1]
    assert history[-1]["learning_rate"] == pytest.approx(settings.learning_rate_last, rel=1e-9)
    assert 0 <= history[-1]["val_macro_f1"] <= 1


@pytest.mark.training
def test_it_learns(tiny_dataset, make_recipe, tmp_path):
    off = [f"augment.{name}_probability=0" for name in ("mixup", "cutmix", "noise", "blur", "motion_blur")]
    network = ['models.architectures=["convnextv2_mini"]', "models.image_size_px=32"]
    length = ["train.epochs=15", "train.ema_decay=0.7", "optimiser.learning_rate_first=3e-3"]
    recipe = make_recipe("loss.name=cross_entropy", "augment.brightness=0", *network, *length, *off)
    run = train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    oof = pd.read_parquet(run.oof).query("view_set == 'dihedral'")
    logits = oof[[f"logit_{code}" for code in tiny_dataset.classes]].to_numpy()
    accuracy = (np.array(tiny_dataset.classes)[logits.argmax(1)] == oof["label"]).mean()
    assert accuracy > 0.8  # chance is 0.4; the three colours are far apart


@pytest.mark.training
def test_the_same_seed_gives_the_same_bits_in_another_folder(tiny_run, tiny_dataset, make_recipe, tmp_path):
    again = train(make_recipe(), tiny_dataset, out=tmp_path / "again", accelerator="cpu")
    for fold in (0, 1):
        assert (
            again.member("vit_mini", fold).weights.read_bytes()
            == tiny_run.member("vit_mini", fold).weights.read_bytes()
        )
        assert read_history(again, fold) == read_history(tiny_run, fold)
    pd.testing.assert_frame_equal(pd.read_parquet(again.oof), pd.read_parquet(tiny_run.oof))


@pytest.mark.training
def test_another_seed_gives_other_weights(tiny_run, tiny_dataset, make_recipe, tmp_path):
    other = train(make_recipe("train.seed=1"), tiny_dataset, out=tmp_path / "other", accelerator="cpu")
    assert not torch.equal(read_weights(other)["head.0.weight"], read_weights(tiny_run)["head.0.weight"])


def test_members_of_one_run_start_from_other_numbers(tiny_run):
    assert not torch.equal(read_weights(tiny_run, 0)["head.0.weight"], read_weights(tiny_run, 1)["head.0.weight"])


def test_a_finished_run_is_not_touched_again(tiny_dataset, make_recipe, tmp_path):
    run = train(make_recipe("train.epochs=1"), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    before = read_files(run.folder / "members")
    train(make_recipe("train.epochs=1"), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    assert read_files(run.folder / "members") == before


def test_only_the_member_that_is_missing_is_trained(tiny_run, tiny_dataset, make_recipe, tmp_path):
    import shutil

    shutil.copytree(tiny_run.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    shutil.rmtree(run.member("vit_mini", 1).folder)
    before = read_files(run.member("vit_mini", 0).folder)
    train(make_recipe(), tiny_dataset, out=run.folder, accelerator="cpu")
    assert read_files(run.member("vit_mini", 0).folder) == before
    assert run.member("vit_mini", 1).weights.read_bytes() == tiny_run.member("vit_mini", 1).weights.read_bytes()


class TestRefusals:
    """A run is not continued with something else, and nothing of it changes when it is refused."""

    @pytest.fixture
    def untouched(self, tiny_run):
        before = read_files(tiny_run.folder)
        yield tiny_run
        assert read_files(tiny_run.folder) == before

    def test_another_recipe(self, untouched, tiny_dataset, make_recipe):
        with pytest.raises(RunError, match=r"train\.epochs.*2.*3") as caught:
            train(make_recipe("train.epochs=3"), tiny_dataset, out=untouched.folder, accelerator="cpu")
        assert "out" in caught.value.hint

    def test_another_manifest(self, untouched, make_recipe, tmp_path):
        table = draw_pictures(tmp_path / "pictures", {"EO": 6, "LY": 12, "SNE": 12}, seed=1)
        other = build_dataset(f"csv:{table}", tmp_path / "other")
        with pytest.raises(RunError, match="manifest"):
            train(make_recipe(), other, out=untouched.folder, accelerator="cpu")

    def test_other_folds(self, untouched, make_recipe, tmp_path):
        table = draw_pictures(tmp_path / "pictures", {"EO": 6, "LY": 12, "SNE": 12})  # the same pixels elsewhere
        same = build_dataset(f"csv:{table}", tmp_path / "same")
        folds, _ = make_folds(same.manifest, num_folds=2)
        folds["fold"] = 1 - folds["fold"]
        folds.to_csv(same.folder / "folds.csv", index=False)
        with pytest.raises(RunError, match="folds"):
            train(make_recipe(), same, out=untouched.folder, accelerator="cpu")

    def test_a_folder_that_is_no_run(self, tiny_dataset, make_recipe, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(StorageError, match=r"thesis\.tex"):
            train(make_recipe(), tiny_dataset, out=tmp_path, accelerator="cpu")
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_an_architecture_that_is_not_there_leaves_no_run(self, tiny_dataset, make_recipe, tmp_path):
        with pytest.raises(RecipeError, match="resnet5000"):
            train(
                make_recipe('models.architectures=["resnet5000"]'),
                tiny_dataset,
                out=tmp_path / "run",
                accelerator="cpu",
            )
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("setting", ["loss.name=hinge", "sampling.sampler=fair"])
    def test_an_unknown_loss_or_sampler(self, setting, tiny_dataset, make_recipe, tmp_path):
        with pytest.raises(RecipeError, match=setting.replace("=", ' "')) as caught:
            train(make_recipe(setting), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
        assert "Choose from" in caught.value.hint
        assert not Run(tmp_path / "run").has_members

    def test_a_device_that_is_not_there(self, tiny_dataset, make_recipe, tmp_path):
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        with pytest.raises(RunError, match="gpu"):
            train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="gpu")


class Script:
    """Held-out macro-F1s as a script says, and the averages' weights at the end of each epoch."""

    def __init__(self, monkeypatch, scores):
        self.weights = []
        real = MemberTraining._end_epoch
        monkeypatch.setattr(member_module, "macro_f1", lambda *_: scores[min(len(self.weights), len(scores) - 1)])

        def end_epoch(training, logits):
            state = training.average.network.state_dict()
            real(training, logits)
            self.weights.append({k: v.clone() for k, v in state.items()})

        monkeypatch.setattr(MemberTraining, "_end_epoch", end_epoch)


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


@pytest.mark.training
def test_patience_stops_and_the_best_epoch_is_kept(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    script = Script(monkeypatch, [0.2, 0.5, 0.5, 0.4, 0.3, 0.9, 0.9])
    recipe = make_recipe("train.epochs=7", "train.keep=best", "train.patience_epochs=3")
    training = member_training(tiny_dataset, recipe, tmp_path)
    training.run()
    done = json.loads(training.member.done.read_text())
    assert (done["epochs"], done["kept_epoch"]) == (5, 1)  # the first 0.5: a tie is no rise
    stored = safetensors.torch.load_file(training.member.weights)
    assert same(stored, script.weights[1])
    assert not same(stored, script.weights[4])
    assert [line["best"] for line in training.history] == [True, True, False, False, False]


@pytest.mark.training
def test_patience_begins_again_with_every_rise(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    script = Script(monkeypatch, [0.5, 0.4, 0.6, 0.5, 0.7, 0.1])
    training = member_training(
        tiny_dataset, make_recipe("train.epochs=6", "train.keep=best", "train.patience_epochs=2"), tmp_path
    )
    training.run()
    done = json.loads(training.member.done.read_text())
    assert (done["epochs"], done["kept_epoch"]) == (6, 4)
    assert same(safetensors.torch.load_file(training.member.weights), script.weights[4])


@pytest.mark.training
def test_keep_last_trains_every_epoch_and_chooses_nothing(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    script = Script(monkeypatch, [0.9, 0.1, 0.1, 0.1])
    training = member_training(tiny_dataset, make_recipe("train.epochs=4", "train.patience_epochs=1"), tmp_path)
    training.run()
    done = json.loads(training.member.done.read_text())
    assert (done["epochs"], done["kept_epoch"]) == (4, 3)
    assert same(safetensors.torch.load_file(training.member.weights), script.weights[3])


def test_training_sees_neither_the_fold_held_out_nor_labels_of_it(tiny_dataset, make_recipe, tmp_path):
    training = member_training(tiny_dataset, make_recipe(), tmp_path)
    data = training.data
    assert not set(data.train) & set(data.held_out)
    assert sorted([*data.train, *data.held_out]) == list(range(30))
    seen = {int(row) for epoch in range(20) for batch in training._epoch_batches(epoch) for row in batch}
    assert seen <= set(data.train)
    patients = data.table["patient"].to_numpy()
    assert not set(patients[data.train]) & set(patients[data.held_out])


def test_the_gradient_is_that_of_the_mean_loss(tiny_dataset, make_recipe, tmp_path):
    """By hand: the same augmented batch through the same network, torch's own mean."""
    recipe = make_recipe("models.head_dropout=0", "loss.name=cross_entropy")
    training = member_training(tiny_dataset, recipe, tmp_path)
    rows = training.data.train[:7]
    loss = training.compute_gradients(rows)
    gradients = {k: p.grad.clone() for k, p in training.network.module.named_parameters()}
    images, labels = training._augmented(rows)
    training.network.module.zero_grad()
    expected = torch.nn.functional.cross_entropy(training.network.module(images), labels)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for name, parameter in training.network.module.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.training
def test_settings_are_given_as_on_the_command_line(tiny_dataset, make_recipe, tmp_path):
    run = train(
        make_recipe(), tiny_dataset.folder, out=tmp_path / "run", settings=["train.epochs=1"], accelerator="cpu"
    )
    assert load_recipe(run.recipe).train.epochs == 1
    assert len(read_history(run)) == 1


def test_weights_that_are_not_at_hand_stop_training_with_words(tiny_dataset, make_recipe, tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pth"):
        train(
            make_recipe("models.weights=pretrained", "models.weight_files.vit_mini=gone.pth"),
            tiny_dataset,
            out=tmp_path / "run",
            accelerator="cpu",
        )


@pytest.mark.training
def test_a_run_that_came_to_nothing_may_be_begun_with_other_settings(tiny_dataset, make_recipe, tmp_path):
    """As the hint of the error above says: the folder holds no training yet that could be mixed up."""
    wrong = make_recipe("models.weights=pretrained", "models.weight_files.vit_mini=gone.pth", "train.epochs=1")
    with pytest.raises(WeightsError):
        train(wrong, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    run = train(wrong, tiny_dataset, out=tmp_path / "run", settings=["models.weights=none"], accelerator="cpu")
    assert load_recipe(run.recipe).models.weights == "none"
    assert json.loads(run.provenance.read_text())["fingerprints"]["recipe"]
    assert run.member("vit_mini", 1).is_done


def test_a_training_that_fails_closes_its_progress_bar(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    """A bar left open is closed by the garbage collector, perhaps while a log line is being written."""

    def fail(training):
        raise DataError(str(training.member))

    monkeypatch.setattr(MemberTraining, "run", fail)
    before = list(tqdm._instances)
    with pytest.raises(DataError) as caught:
        train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    assert list(tqdm._instances) == before, caught.value


def test_a_second_training_of_the_same_run_is_refused(tiny_dataset, make_recipe, tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    with FileLock(run.lock), pytest.raises(RunError, match="being trained by another process"):
        train(make_recipe(), tiny_dataset, out=run.folder)
