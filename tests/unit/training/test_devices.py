"""One member over two processes: the same gradients as in one, and a whole run."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from helpers.networks import member_training
from nonet.artifacts.run import Run
from nonet.errors import WeightsError
from nonet.models.device import make_fabric
from nonet.training.all_members import train_members
from nonet.training.inputs import Job, get_folds, get_member_data, make_job
from nonet.training.launch import train
from nonet.training.member import MemberTraining
from nonet.workers import end_with_parent

pytestmark = pytest.mark.training

TWO = {"accelerator": "cpu", "devices": 2}
SHARED = {"accelerator": "cpu", "devices": 2, "devices_per_member": 2}


def begin(dataset, recipe, folder) -> Job:
    folds, _ = get_folds(recipe, dataset)
    return make_job(Run(folder), recipe, dataset, folds)


@pytest.fixture(autouse=True)
def no_port_of_another_test(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "")
    monkeypatch.delenv("MASTER_PORT")


def gradients(fabric, job: Job, sizes: list[int]) -> list[dict]:
    """Loss and gradients of batches of these sizes, one step after each; runs in every process."""
    member = job.run.member(job.recipe.models.architectures[0], 0)
    training = MemberTraining(member, get_member_data(job, member), job.recipe, fabric)
    for module in training.network.module.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0  # timm's SwinV2 leaves blocks out at random, drawn by each process for itself
    results = []
    for size in sizes:
        loss = training.compute_gradients(training.data.train[:size])
        named = training.network.module.named_parameters()
        results.append({"loss": loss} | {name: p.grad.numpy().copy() for name, p in named})
        training.optimiser.step()
        training.average.update(training.network.module)
        training.step += 1
    return results


def gradients_of_each(fabric, jobs: list[Job], sizes: list[int], out: Path) -> None:
    """Write them to a file: what a launched function returns goes through a pipe that 64 KiB would block for ever."""
    end_with_parent_if_launched(fabric)
    steps = [gradients(fabric, job, sizes) for job in jobs]
    if fabric.is_global_zero:
        torch.save(steps, out)


def test_two_processes_give_the_gradients_of_one(make_recipe, tiny_dataset, tmp_path):
    """Batches of 8, and of 7, 3 and 2, whose shares are uneven or one image each."""
    settings = ["models.head_dropout=0", "augment.mixup_probability=0.5", "augment.cutmix_probability=0.5"]
    # So small that weights stay: AdamW's first step moves a weight as far for a gradient of 1e-12 as for one of 1.
    settings += ["optimiser.learning_rate_first=1e-12", "optimiser.learning_rate_last=0.0", "models.image_size_px=32"]
    names = ["vit_mini", "swinv2_mini"]
    recipes = [make_recipe(f'models.architectures=["{name}"]', *settings) for name in names]
    jobs = [begin(tiny_dataset, recipe, tmp_path) for recipe in recipes]
    sizes = [8, 7, 3, 2]
    gradients_of_each(make_fabric(accelerator="cpu"), jobs, sizes, tmp_path / "alone.pt")
    make_fabric(**TWO).launch(partial(gradients_of_each, jobs=jobs, sizes=sizes, out=tmp_path / "together.pt"))
    alone, together = (torch.load(tmp_path / f"{name}.pt", weights_only=False) for name in ("alone", "together"))
    assert [len(steps) for steps in together] == [len(steps) for steps in alone] == [4, 4]
    for architecture, ones, twos in zip(names, alone, together):
        for size, one, two in zip(sizes, ones, twos):
            assert one.keys() == two.keys()
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
            scale = max(np.abs(gradient).max() for gradient in one.values())
            for name, gradient in one.items():
                where = f"{architecture}, batch of {size}: {name}"
                np.testing.assert_allclose(two[name], gradient, rtol=1e-5, atol=1e-6 * scale, err_msg=where)
        assert max(np.abs(gradient).max() for name, gradient in ones[0].items() if name != "loss") > 1e-4


def test_a_run_over_two_processes(make_recipe, tiny_dataset, tiny_run, tmp_path):
    run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", **SHARED)
    assert "MASTER_PORT" not in os.environ  # the next training asks for a port that is free then
    for fold in (0, 1):
        member = run.member("vit_mini", fold)
        files = sorted(p.name for p in member.folder.iterdir())
        assert files == ["DONE", "features.npz", "history.jsonl", "ood.npz", "oof.parquet", "weights.safetensors"]
        assert len(member.history.read_text().splitlines()) == 2
    oof = pd.read_parquet(run.oof)
    assert sorted(oof.query("view_set == 'none'")["image_id"]) == sorted(tiny_dataset.manifest["image_id"])
    first = json.loads(run.member("vit_mini", 0).history.read_text().splitlines()[0])
    alone = json.loads(tiny_run.member("vit_mini", 0).history.read_text().splitlines()[0])
    assert first["train_loss"] == pytest.approx(alone["train_loss"], rel=0.2)  # dropout is drawn by process
    again = {p: p.stat().st_mtime_ns for p in run.folder.rglob("members/**/*")}
    train(make_recipe(), tiny_dataset, out=tmp_path / "run", **SHARED)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("members/**/*")} == again


def test_an_error_in_a_process_is_the_users_to_read(make_recipe, tiny_dataset, tmp_path):
    recipe = make_recipe("models.weights=pretrained", "models.weight_files.vit_mini=gone.pth")
    with pytest.raises(WeightsError, match=r"gone\.pth") as caught:
        train(recipe, tiny_dataset, out=tmp_path / "run", **SHARED)
    assert "weight_files" in caught.value.hint
    assert "Traceback" not in str(caught.value)


def test_one_process_may_go_on_where_two_were_stopped(make_recipe, tiny_dataset, tmp_path):
    """The state is of the network alone, without the wrapping that several processes put around it."""
    recipe = make_recipe("train.epochs=2")
    job = begin(tiny_dataset, recipe, tmp_path / "run")
    make_fabric(**TWO).launch(partial(train_one_epoch, job=job))
    assert job.run.member("vit_mini", 0).state.exists()
    train_members(make_fabric(accelerator="cpu"), job, job.members)
    member = job.run.member("vit_mini", 0)
    assert [json.loads(line)["epoch"] for line in member.history.read_text().splitlines()] == [0, 1]
    expected = member_training(tiny_dataset, recipe, tmp_path / "other").network.module.state_dict()
    stored = safetensors.torch.load_file(member.weights)
    assert stored.keys() == expected.keys()


def end_with_parent_if_launched(fabric) -> None:
    """Else a test that is killed leaves processes that wait for each other."""
    if fabric.world_size > 1:
        end_with_parent()


def train_one_epoch(fabric, job: Job) -> None:
    end_with_parent_if_launched(fabric)
    """Train, and stop before its outcome is computed."""
    member = job.run.member("vit_mini", 0)
    member.folder.mkdir(parents=True, exist_ok=True)
    training = MemberTraining(member, get_member_data(job, member), job.recipe, fabric)
    training._is_finished = lambda: training.epoch >= 1
    training._finish = lambda: None
    training.run()


@pytest.mark.parametrize("refit", ["false", "true"])
def test_two_processes_finish_as_one_does(refit, make_recipe, tiny_dataset, tmp_path):
    """From the same last state: validation, features and views are shared, uneven shares too, and are the same bits."""
    recipe = make_recipe("train.batch_size=2", "train.epochs=1", f"models.refit_head={refit}")
    begun = begin(tiny_dataset, recipe, tmp_path / "begun")
    train_one_epoch(make_fabric(accelerator="cpu"), begun)
    jobs = []
    for name in ("alone", "together"):
        shutil.copytree(begun.run.folder, tmp_path / name)
        jobs.append(replace(begun, run=Run(tmp_path / name)))
    finish_member(make_fabric(accelerator="cpu"), jobs[0])
    make_fabric(**TWO).launch(partial(finish_member, job=jobs[1]))
    alone, together = (job.run.member("vit_mini", 0) for job in jobs)
    assert alone.weights.read_bytes() == together.weights.read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(alone.oof), pd.read_parquet(together.oof))
    for file in ("features.npz", "ood.npz"):
        one, other = (dict(np.load(member.folder / file)) for member in (alone, together))
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{file}: {key}")
    assert json.loads(alone.done.read_text())["val_macro_f1"] == json.loads(together.done.read_text())["val_macro_f1"]


def finish_member(fabric, job: Job) -> None:
    member = job.run.member("vit_mini", 0)
    MemberTraining(member, get_member_data(job, member), job.recipe, fabric).run()
