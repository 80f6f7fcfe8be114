"""Networks that die in training: detected, trained again from another seed, and left out where that does not help."""

import itertools
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

import nonet
from helpers.networks import member_training
from nonet.artifacts.run import Run
from nonet.errors import RunError
from nonet.evaluation.mistakes import mistakes_table
from nonet.evaluation.run_data import read_run
from nonet.training import member as member_module
from nonet.training.launch import train
from nonet.training.liveness import MIN_IMAGES, get_death_reason
from nonet.training.losses import compute_loss
from nonet.training.member import MemberTraining

pytestmark = pytest.mark.usefixtures("without_drawings")


def read_done(run, fold, architecture="vit_mini"):
    return json.loads(run.member(architecture, fold).done.read_text())


def constant_head(training):
    """As a head whose hidden units are all inactive: its bias is all that is left, and no gradient reaches it."""
    for network in (training.network.module, training.average.network):
        with torch.no_grad():
            network.head[0].weight.zero_()
            network.head[0].bias.fill_(-1.0)


class Planted:
    """Kills the networks of some attempts at the start of each."""

    def __init__(self, monkeypatch, kill, die=constant_head):
        self.attempts = []
        real = MemberTraining._start_attempt

        def begin(training):
            real(training)
            self.attempts.append((training.member.name, training.attempt))
            if kill(training.member, training.attempt):
                die(training)

        monkeypatch.setattr(MemberTraining, "_start_attempt", begin)


def diverge(at):
    """Return a way to die: the loss of the attempt's step `at` is not finite."""

    def die(training):
        steps, real = itertools.count(), training.compute_gradients

        def compute_gradients(rows):
            if next(steps) != at:
                return real(rows)
            del training.compute_gradients
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(member_module, "compute_loss", lambda *args: compute_loss(*args) * math.nan)
                return MemberTraining.compute_gradients(training, rows)

        training.compute_gradients = compute_gradients

    return die


@pytest.fixture
def truth():
    return np.repeat(np.arange(4), [300, 60, 30, 10])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_constant_is_dead_from_the_first_epoch_on(truth, rng):
    logits = np.tile(rng.normal(size=4), (len(truth), 1)).astype(np.float32)
    logits += rng.normal(size=logits.shape).astype(np.float32) * 1e-7  # batches of other sizes round otherwise
    for at_end in (False, True):
        assert "same logits" in get_death_reason(logits, truth, at_end=at_end)


def test_logits_that_are_not_finite_are_dead(truth, rng):
    logits = rng.normal(size=(len(truth), 4))
    logits[3, 1] = np.nan
    for at_end in (False, True):
        assert "1 of 400" in get_death_reason(logits, truth, at_end=at_end)


def test_one_class_for_all_images_is_dead_only_at_the_end_and_only_if_logits_do_not_separate_classes(truth, rng):
    always = np.array([3.0, 0, 0, 0])
    hardly = always + rng.normal(size=(len(truth), 4)) * 0.01
    noise = always + rng.normal(size=(len(truth), 4)) * 0.3
    knows = always + np.eye(4)[truth] * 0.8 + rng.normal(size=(len(truth), 4)) * 0.3
    assert [len(np.unique(logits.argmax(1))) for logits in (hardly, noise, knows)] == [1, 1, 1]
    assert "hardly vary" in get_death_reason(hardly, truth, at_end=True)
    assert "no better than chance" in get_death_reason(noise, truth, at_end=True)
    # It always names the commonest class, and yet what it says of the others helps an ensemble.
    assert get_death_reason(knows, truth, at_end=True) is None
    for logits in (hardly, noise, knows):
        assert get_death_reason(logits, truth, at_end=False) is None


def test_guesses_are_dead_and_a_weak_network_is_left_alone(truth, rng):
    guesses = rng.normal(size=(len(truth), 4))
    weak = guesses + np.eye(4)[truth] * 0.5
    assert len(np.unique(guesses.argmax(1))) == 4
    assert "no better than chance" in get_death_reason(guesses, truth, at_end=True)
    assert get_death_reason(guesses, truth, at_end=False) is None
    assert get_death_reason(weak, truth, at_end=True) is None
    few = np.array([3.0, 0, 0, 0]) + rng.normal(size=(MIN_IMAGES - 1, 4)) * 0.01
    assert get_death_reason(few, truth[-len(few) :], at_end=True) is None


def test_to_say_the_same_of_images_of_one_class_is_right(rng):
    assert get_death_reason(np.ones((200, 4)), np.zeros(200, dtype=int), at_end=True) is None


@pytest.mark.training
def test_a_dead_network_is_begun_again_from_another_seed(tiny_dataset, make_recipe, tmp_path, monkeypatch, caplog):
    planted = Planted(monkeypatch, lambda member, attempt: member.fold == 0 and attempt < 2)
    with caplog.at_level("WARNING", logger="nonet"):
        run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    assert planted.attempts == [("vit_mini/fold-0", n) for n in range(3)] + [("vit_mini/fold-1", 0)]
    done = read_done(run, 0)
    assert (done["attempt"], done["dead"], done["epochs"]) == (2, None, 2)
    assert [(lost["epochs"], "same logits" in lost["reason"]) for lost in done["earlier_attempts"]] == [(1, True)] * 2
    assert (read_done(run, 1)["attempt"], read_done(run, 1)["earlier_attempts"]) == (0, [])
    messages = [r.getMessage() for r in caplog.records if "another seed" in r.getMessage()]
    assert len(messages) == 2 and all(text.startswith("vit_mini/fold-0") for text in messages)
    lines = [json.loads(line) for line in run.member("vit_mini", 0).history.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert json.loads(run.ensemble.read_text())["members"] == [
        {"architecture": "vit_mini", "fold": fold, "weight": 1.0} for fold in (0, 1)
    ]


def test_each_attempt_begins_elsewhere_and_the_first_as_if_there_were_no_others(tiny_dataset, make_recipe, tmp_path):
    training = member_training(tiny_dataset, make_recipe(), tmp_path)
    weights, orders, seeds = [], [], []
    for attempt in range(3):
        training.earlier_attempts = [{"epochs": 1, "reason": "died"}] * attempt
        training._start_attempt()
        weights.append(training.network.module.head[0].weight.detach().clone())
        orders.append(np.concatenate(training._epoch_batches(0)).tolist())
        seeds.append(training._seed("start"))
    assert len(set(seeds)) == 3
    assert seeds[0] == member_module.derive_seed(0, "vit_mini", 0, "start")
    for a, b in itertools.combinations(range(3), 2):
        assert not torch.equal(weights[a], weights[b])
        assert orders[a] != orders[b]


@pytest.mark.training
@pytest.mark.parametrize("at", [0, 2])
def test_a_network_that_diverges_is_begun_again(at, tiny_dataset, make_recipe, tmp_path, monkeypatch, caplog):
    Planted(monkeypatch, lambda member, attempt: member.fold == 1 and attempt == 0, diverge(at))
    with caplog.at_level("WARNING", logger="nonet"):
        run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    done = read_done(run, 1)
    assert (done["attempt"], done["dead"]) == (1, None)
    reason = done["earlier_attempts"][0]["reason"]
    assert reason == f"diverged: its loss was nan at epoch {at // 2}, step 0"  # an epoch has two steps
    messages = [r.getMessage() for r in caplog.records if "diverged" in r.getMessage()]
    assert len(messages) == 1 and "optimiser.learning_rate_first" in messages[0]


class PulledPlug(BaseException):
    """Not an Exception, so that nothing on the way can catch it by mistake."""


@pytest.mark.training
def test_killed_between_attempts_it_ends_with_the_same_bits(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    """Killed at every file it writes: in the attempt that dies, when the next begins, and in that."""
    recipe = make_recipe("train.checkpoint_seconds=0", "models.head_dropout=0.3")
    # Dead from its second step on, whatever is resumed: of the first attempt, in both trainings.
    real_step = MemberTraining._train_batch

    def train_batch(training, rows):
        loss = real_step(training, rows)
        if training.member.fold == 0 and training.attempt == 0 and (training.epoch, training.step) == (0, 1):
            constant_head(training)
        return loss

    monkeypatch.setattr(MemberTraining, "_train_batch", train_batch)
    whole = train(recipe, tiny_dataset, out=tmp_path / "whole", accelerator="cpu")
    assert read_done(whole, 0)["attempt"] == 1
    real, budget = type(whole.folder).replace, [0]

    def replace(self, target):
        budget[0] -= 1
        if budget[0] < 0:
            raise PulledPlug
        return real(self, target)

    monkeypatch.setattr(type(whole.folder), "replace", replace)
    budgets, starts = itertools.cycle([1, 3, 7, 2, 5]), 0
    while True:
        starts, budget[0] = starts + 1, next(budgets)
        assert starts < 100
        try:
            run = train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
        except PulledPlug:
            continue
        break
    assert starts > 4
    for fold in (0, 1):
        run_member, whole_member = run.member("vit_mini", fold), whole.member("vit_mini", fold)
        assert run_member.weights.read_bytes() == whole_member.weights.read_bytes()
        done = [json.loads(m.done.read_text()) for m in (run_member, whole_member)]
        for facts in done:
            del facts["seconds"], facts["files"]["history.jsonl"], facts["sha256"]
        assert done[0] == done[1]
    pd.testing.assert_frame_equal(pd.read_parquet(run.oof), pd.read_parquet(whole.oof))


def always_dead(*names):
    return lambda member, attempt: member.name in names


@pytest.fixture(scope="module")
def lame_run(tiny_dataset, make_recipe, tmp_path_factory):
    """Two architectures, two folds; ViT-Mini of fold 0 dies in each of two attempts."""
    recipe = make_recipe(
        'models.architectures=["swinv2_mini","vit_mini"]', "models.image_size_px=32", "train.max_restarts=1"
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        Planted(monkeypatch, always_dead("vit_mini/fold-0"))
        return train(recipe, tiny_dataset, out=tmp_path_factory.mktemp("lame") / "run", accelerator="cpu")


def copied(run, folder):
    return Run(shutil.copytree(run.folder, folder / "run"))


@pytest.mark.training
def test_a_member_that_stays_dead_gets_zero_weight(lame_run):
    done = read_done(lame_run, 0)
    assert done["attempt"] == 1 and "same logits" in done["dead"] and len(done["earlier_attempts"]) == 1
    entries = json.loads(lame_run.ensemble.read_text())["members"]
    assert [entry["weight"] for entry in entries] == [1.0, 0.0, 1.0, 1.0]
    assert [entry.get("reason") for entry in entries] == [None, done["dead"], None, None]
    oof = pd.read_parquet(lame_run.oof)
    assert set(zip(oof["architecture"], oof["fold"])) == {("swinv2_mini", 0), ("swinv2_mini", 1), ("vit_mini", 1)}
    assert [m.name for m in nonet.load(lame_run, accelerator="cpu").members] == [
        "swinv2_mini/fold-0",
        "swinv2_mini/fold-1",
        "vit_mini/fold-1",
    ]


@pytest.mark.training
def test_table_and_differences_are_of_the_living(lame_run, tmp_path):
    """Each against scikit-learn, on the images that the row's living members judge."""
    run = copied(lame_run, tmp_path)
    table = nonet.evaluate(run, num_resamples=50).set_index(["views", "architecture"])
    oof = pd.read_parquet(run.oof)
    columns = [column for column in oof if column.startswith("logit_")]
    codes = np.array([column.removeprefix("logit_") for column in columns])

    def score(rows):
        named = codes[rows[columns].to_numpy().argmax(axis=1)]
        return f1_score(rows["label"], named, labels=sorted(rows["label"].unique()), average="macro", zero_division=0)

    for views in ("none", "dihedral"):
        of_views = oof[oof["view_set"] == views]
        vit, swin = (of_views[of_views["architecture"] == name] for name in ("vit_mini", "swinv2_mini"))
        mean = of_views.groupby(["image_id", "label"])[columns].mean().reset_index()  # of those there are
        for name, rows in (("vit_mini", vit), ("swinv2_mini", swin), ("ensemble", mean)):
            row = table.loc[(views, name)]
            assert (row["images"], row["macro_f1"]) == (len(rows), pytest.approx(score(rows)))
            assert row["groups"] == row["patients"] <= 6
    assert table.loc[("none", "vit_mini"), "name"] == "1 × ViT-Mini"
    assert table.loc[("none", "vit_mini"), "images"] < table.loc[("none", "ensemble"), "images"] == 30
    differences = pd.read_csv(run.evaluation / "differences.csv").set_index("comparison")["difference"]
    same = mean[mean["image_id"].isin(vit["image_id"])]
    assert differences["ensemble − 1 × ViT-Mini"] == pytest.approx(score(same) - score(vit))


@pytest.mark.training
def test_report_card_and_log_say_which_member_died_and_why(lame_run, tmp_path, caplog):
    run = copied(lame_run, tmp_path)
    with caplog.at_level("WARNING", logger="nonet"):
        nonet.evaluate(run, num_resamples=50)
    reason = read_done(run, 0)["dead"]
    sentence = f"ViT-Mini of fold 0 {reason}, in each of 2 attempts with different seeds."
    pages = [(run.evaluation / name).read_text() for name in ("report.html", "model_card.md")]
    assert all(sentence in page for page in pages)
    assert any(sentence in message for message in caplog.messages)
    assert "1 × ViT-Mini" in pages[0] and "3 networks" in pages[0] and "an ensemble of 3 networks" in pages[1]


def test_mistakes_are_counted_on_what_living_members_judge(lame_run):
    oof = read_run(lame_run).oof
    table = mistakes_table(oof).set_index("architecture")
    predicted = oof.predicted[oof.rows().index(("dihedral", "vit_mini"))]
    judged = predicted >= 0
    assert table.loc["vit_mini", "images"] == judged.sum() < table.loc["ensemble", "images"] == 30
    assert table.loc["vit_mini", "mistakes"] == (predicted != oof.true)[judged].sum()


@pytest.mark.training
def test_calibration_and_damage_do_without_a_dead_member(lame_run, tiny_dataset, tmp_path):
    run = copied(lame_run, tmp_path)
    assert nonet.calibrate(run).temperature == 1  # 30 images are too few
    robustness = nonet.evaluate_robustness(
        run,
        dataset=tiny_dataset,
        corruptions=["blur"],
        severities=[1],
        accelerator="cpu",
        num_workers=1,
        num_resamples=20,
    )
    assert (robustness.scores["images"] == 30).all() and robustness.scores["macro_f1"].notna().all()


@pytest.mark.training
def test_a_fold_without_a_living_member_is_not_scored(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    Planted(monkeypatch, always_dead("vit_mini/fold-0"))
    run = train(make_recipe("train.max_restarts=0"), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    held_out = pd.read_csv(run.folds)["fold"].eq(0).sum()
    table = nonet.evaluate(run, num_resamples=50)
    assert set(table["images"]) == {30 - held_out}
    assert f"{held_out} images" in (run.evaluation / "report.html").read_text()


@pytest.mark.training
def test_where_all_died_the_report_says_so_first(tiny_dataset, make_recipe, tmp_path, monkeypatch, caplog):
    Planted(monkeypatch, lambda *_: True)
    run = train(make_recipe("train.max_restarts=0"), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    assert any("All 2 networks" in message for message in caplog.messages)
    assert [entry["weight"] for entry in json.loads(run.ensemble.read_text())["members"]] == [1.0, 1.0]
    nonet.evaluate(run, num_resamples=50)
    html = (run.evaluation / "report.html").read_text()
    first = html[html.index('<p class="answer">') :]
    assert "chance" in first.split("</p>")[0]
    assert "All networks died in training" in html
    assert not (run.evaluation / "issues.csv").exists()
    caplog.clear()
    nonet.load(run, accelerator="cpu")
    assert any("worthless" in message for message in caplog.messages)


@pytest.mark.training
def test_where_all_diverged_there_is_nothing_to_report(tiny_dataset, make_recipe, tmp_path, monkeypatch):
    def spoil(training):
        with torch.no_grad():
            training.average.network.head[-1].bias.fill_(math.nan)
        diverge(0)(training)

    Planted(monkeypatch, lambda *_: True, spoil)
    with pytest.raises(RunError, match="vit_mini/fold-0") as caught:
        train(make_recipe("train.max_restarts=0"), tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    assert "learning_rate_first" in caught.value.hint
    assert not Run(tmp_path / "run").ensemble.exists()


@pytest.mark.training
@pytest.mark.parametrize("settings", [["train.keep=best"], ["train.keep=last"], ["models.refit_head=true"]])
def test_done_and_report_are_of_what_is_kept(settings, tiny_dataset, make_recipe, tmp_path):
    """DONE's macro-F1 is that of the out-of-fold logits, as kept; the report has it, the kept epoch and the time."""
    recipe = make_recipe("train.epochs=4", *settings)
    run = train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    oof = pd.read_parquet(run.oof).query("view_set == 'none'")
    columns = [column for column in oof if column.startswith("logit_")]
    nonet.evaluate(run, num_resamples=50)
    rows = re.search(r"epoch used.*?<tbody>(.*?)</tbody>.*?<tfoot>(.*?)</tfoot>", read_html(run), re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows[1].split("</tr>")]
    for fold in (0, 1):
        held_out, done = oof[oof["fold"] == fold], read_done(run, fold)
        named = [columns[k].removeprefix("logit_") for k in held_out[columns].to_numpy().argmax(axis=1)]
        expected = f1_score(held_out["label"], named, labels=sorted(held_out["label"].unique()), average="macro")
        assert done["val_macro_f1"] == pytest.approx(expected)
        history = [json.loads(line) for line in run.member("vit_mini", fold).history.read_text().splitlines()]
        if recipe.train.keep == "last":
            assert done["kept_epoch"] == 3
        else:
            assert history[done["kept_epoch"]]["val_macro_f1"] == max(line["val_macro_f1"] for line in history)
        assert cells[fold][:5] == [
            str(fold),
            "4",
            str(done["kept_epoch"]),
            f"{expected:.3f}",
            f"{done['seconds'] / 60:.1f}",
        ]
        assert done["seconds"] >= history[-1]["seconds"] - 0.06  # cumulative: DONE comes after the last epoch
    assert f"{sum(read_done(run, fold)['seconds'] for fold in (0, 1)) / 60:.1f}" in rows[2]


def read_html(run):
    return (run.evaluation / "report.html").read_text()
