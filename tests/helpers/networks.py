"""Networks to test with: a run's with random weights, and one that takes single steps of training."""

import shutil

import safetensors.torch
import torch

from helpers.sealing import seal
from nonet.artifacts.run import Run
from nonet.models.device import make_fabric
from nonet.training.member import MemberTraining


def with_random_weights(run, folder):
    """Copy a run, with weights under which images and views differ; two short epochs hardly move a ViT's logits."""
    shutil.copytree(run.folder, folder)
    generator = torch.Generator().manual_seed(0)
    for file in sorted(folder.rglob("weights.safetensors")):
        weights = safetensors.torch.load_file(file)
        for name, tensor in weights.items():
            if tensor.ndim >= 2:
                tensor.normal_(generator=generator).div_(tensor[0].numel() ** 0.5)
            elif name.endswith("gamma"):
                tensor.fill_(1)
        safetensors.torch.save_file(weights, file)
    return seal(folder)


def member_training(dataset, recipe, folder, fold=0):
    """A MemberTraining outside of `train`, to take single steps with."""
    from nonet.training.inputs import get_folds, get_member_data, make_job

    folds, _ = get_folds(recipe, dataset)
    job = make_job(Run(folder), recipe, dataset, folds)
    member = Run(folder).member(recipe.models.architectures[0], fold)
    return MemberTraining(member, get_member_data(job, member), recipe, make_fabric(accelerator="cpu"))
