"""How near does nonet come to a GPU's limit? Prediction and training of the paper's networks; no download.

    python benchmarks/gpu.py                      # or: make bench-gpu
    python benchmarks/gpu.py --device cpu --tiny  # all of it, with tiny networks, in some minutes

The networks have random weights, and the images are drawn cells. Measures, for each architecture of recipe `paper`, the
passes of a batch in several precisions, compiled, and with three members at once; the steps of its training, eager and
compiled, and the share of them that waits for images; and `nonet predict` of the whole ensemble, from JPEG files to
predictions.csv, beside benchmarks/users_loop.py on the same device. The limit is what the device makes of products of
large matrices in bfloat16. Writes benchmarks/gpu.md, after each part anew. Meant for ten minutes of a GPU, most of
which go into compiling.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import machine_in_words
from PIL import Image
from timm.models.swin_transformer_v2 import WindowAttention
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import nonet
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.models.backbones import get_crop
from nonet.models.device import make_fabric, make_repeatable
from nonet.models.network import Classifier, make_classifier
from nonet.recipe import Recipe, load_recipe
from nonet.synthetic.dataset import draw_dataset
from nonet.training.inputs import get_folds, get_member_data, make_job
from nonet.training.member import MemberTraining

HERE = Path(__file__).parent
NUM_CLASSES, NUM_MEMBERS = 13, 3
ALONE = ("float32", "float32, channels_last", "bf16", "bf16, channels_last")
BIAS = "bf16, channels_last, SwinV2's position bias computed once"
COMPILED = ("bf16, channels_last, compiled", "bf16, channels_last, compiled with CUDA graphs")
TOGETHER = ("bf16, three members in turn", "bf16, three members by vmap")


@dataclass(frozen=True)
class Plan:
    """What is measured, and how thoroughly.

    `compiler` are arguments of torch.compile: with --tiny nothing is compiled, only traced, which takes seconds.
    """

    architectures: tuple[str, ...] = ("swinv2_tiny", "convnextv2_tiny", "dinobloom_small")
    settings: tuple[str, ...] = ()
    run_settings: tuple[str, ...] = ()
    batch_size: int = 64
    matrix: int = 8192
    seconds: float = 1.0
    blocks: int = 5
    steps: int = 20
    images: int = 1000
    training_images: int = 390
    cell_px: int = 360
    compiler: tuple[tuple[str, str], ...] = ()

    @property
    def recipe(self) -> Recipe:
        """Recipe `paper` with random weights."""
        return load_recipe("paper", ["models.weights=none", *self.settings])


TINY = Plan(
    architectures=("swinv2_mini", "convnextv2_mini", "vit_mini"),
    settings=("models.image_size_px=64", "train.batch_size=8", "denoise.enabled=false"),
    run_settings=("models.architectures=['efficientnet_lite0']",),
    batch_size=4,
    matrix=512,
    seconds=0.0,
    blocks=1,
    steps=2,
    images=13,
    training_images=39,
    cell_px=96,
    compiler=(("backend", "eager"),),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, mps or cpu (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and hardly any repeats")
    parser.add_argument("--images", type=int, help=f"drawn cells to predict (default: {Plan.images}; with --tiny 13)")
    parser.add_argument("--out", type=Path, default=HERE / "gpu.md")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no GPU that PyTorch can use")
    plan = TINY if arguments.tiny else Plan()
    plan = replace(plan, images=arguments.images or plan.images)
    device, machine = torch.device(arguments.device), machine_in_words()
    sections: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for section in measure(plan, device, Path(folder)):
            sections.append(section)
            arguments.out.write_text(page(sections, device, machine, plan), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measure(plan: Plan, device: torch.device, folder: Path) -> Iterator[str]:
    """Yield sections of the page, the quick and certain ones first."""
    peak = matrix_peak(plan, device)
    yield f"Products of {plan.matrix} × {plan.matrix} matrices in bfloat16: {peak / 1e12:.3g} TFLOP/s, the limit below."
    for architecture in plan.architectures:
        yield prediction_section(architecture, plan, device, peak)
    dataset = draw_and_build(plan, folder)
    yield training_section(plan, device, dataset, folder)
    yield end_to_end_section(plan, device, dataset, folder)


# What it takes: seconds, and shares of the limit.


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], object], plan: Plan, device: torch.device) -> float:
    """Return the seconds of a call: the median of several blocks of calls, after some to warm up."""
    for _ in range(plan.blocks):
        work()
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    calls = max(1, round(plan.seconds / plan.blocks / (time.perf_counter() - started)))
    blocks = []
    for _ in range(plan.blocks):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(device)
        blocks.append((time.perf_counter() - started) / calls)
    return statistics.median(blocks)


def matrix_peak(plan: Plan, device: torch.device) -> float:
    """Return the floating point operations per second of a product of large matrices in bfloat16."""
    a, b = (torch.randn(plan.matrix, plan.matrix, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * plan.matrix**3 / seconds_of(lambda: a @ b, plan, device)


def operations(network: nn.Module, size_px: int) -> int:
    """Return the floating point operations of an image's pass: products of matrices and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size_px, size_px))
    return counter.get_total_flops()


# Prediction.


def prediction_section(architecture: str, plan: Plan, device: torch.device, peak: float) -> str:
    """Measure the passes of a batch through networks of an architecture."""
    size_px = get_crop(architecture, plan.recipe.models).size_px
    networks = [make_network(architecture, plan, seed) for seed in range(NUM_MEMBERS)]
    work = operations(networks[0], size_px)
    networks = [network.to(device) for network in networks]
    images = 255 * torch.rand(plan.batch_size, 3, size_px, size_px, device=device)
    lines = [
        f"## {architecture}: prediction",
        "",
        f"Batches of {plan.batch_size} at {size_px} px; a pass is {work / 1e9:.2f} billion operations.",
        "",
        "| way | passes/s | share of the limit | times float32 |",
        "|---|---|---|---|",
    ]
    first = None
    for way in (*ALONE, *((BIAS,) if "swin" in architecture else ()), *COMPILED, *TOGETHER):
        try:
            passes, run = prepare_way(way, networks, images, plan)
            rate = passes / seconds_of(run, plan, device)
        except Exception as error:  # the compiler's and vmap's failures are of many kinds, and a result here
            lines.append(f"| {way} | fails: {type(error).__name__} | – | – |")
            continue
        first = rate if first is None else first
        lines.append(f"| {way} | {rate:.0f} | {rate * work / peak:.1%} | {rate / first:.2f} |")
    return "\n".join(lines)


def make_network(architecture: str, plan: Plan, seed: int) -> Classifier:
    torch.manual_seed(seed)
    network, _ = make_classifier(architecture, plan.recipe.models, NUM_CLASSES, trained=True)
    return network.eval().requires_grad_(False)


def prepare_way(
    way: str, networks: list[Classifier], images: torch.Tensor, plan: Plan
) -> tuple[int, Callable[[], object]]:
    """Return the passes of a call, and the call."""
    torch.compiler.reset()
    members = [copy.deepcopy(network) for network in networks]
    if "channels_last" in way:
        members = [member.to(memory_format=torch.channels_last) for member in members]
        images = images.to(memory_format=torch.channels_last)
    if way == BIAS:
        fix_position_bias(members[0])
    call: Callable[[torch.Tensor], object] = members[0]
    passes = len(images)
    if way in COMPILED:
        call = torch.compile(members[0], dynamic=False, **compiler(plan, "reduce-overhead" if "graphs" in way else ""))
    elif way in TOGETHER:
        call = by_vmap(members) if "vmap" in way else partial(in_turn, members)
        passes *= len(members)
    return passes, partial(no_gradients, call, images, "bf16" in way)


def compiler(plan: Plan, mode: str) -> dict:
    return dict(plan.compiler) or ({"mode": mode} if mode else {})


@torch.no_grad()
def no_gradients(call: Callable[[torch.Tensor], object], images: torch.Tensor, bf16: bool) -> None:
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        call(images)


def in_turn(networks: list[Classifier], images: torch.Tensor) -> torch.Tensor:
    return torch.stack([network(images) for network in networks])


def by_vmap(networks: list[Classifier]) -> Callable[[torch.Tensor], object]:
    """Return a call of all networks at once, their weights stacked: fewer and larger products of matrices."""
    parameters, buffers = torch.func.stack_module_state(networks)
    base = copy.deepcopy(networks[0]).to("meta")

    def one(parameters: dict, buffers: dict, images: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(base, (parameters, buffers), (images,))

    return partial(torch.vmap(one, in_dims=(0, 0, None)), parameters, buffers)


class Constant(nn.Module):
    """Returns the same whatever it gets."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.value


def fix_position_bias(network: nn.Module) -> None:
    """Replace the small network of each window attention, whose input never changes, by its output."""
    for module in network.modules():
        if isinstance(module, WindowAttention):
            module.cpb_mlp = Constant(module.cpb_mlp(module.relative_coords_table))


# Training.


def draw_and_build(plan: Plan, folder: Path) -> nonet.Dataset:
    options = {"num_images": plan.training_images, "num_patients": 12, "num_workers": os.cpu_count()}
    drawn = draw_dataset(folder / "drawn", size_px=plan.cell_px, **options)
    return nonet.build_dataset(f"csv:{drawn / 'images.csv'}", folder / "dataset")


class Waiting:
    """Images of a member's data; counts the seconds that training waits for them."""

    def __init__(self, images):
        self.images, self.seconds = images, 0.0

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        found = self.images[rows]
        self.seconds += time.perf_counter() - started
        return found


def training_section(plan: Plan, device: torch.device, dataset: nonet.Dataset, folder: Path) -> str:
    """Measure the training of a member of each architecture, eager and compiled."""
    batch_size = plan.recipe.train.batch_size
    lines = [
        "## Training",
        "",
        f"Steps of `nonet train paper` in batches of {batch_size}, with augmentation, optimiser and weight average. "
        "“Waits” is the share of a step in which it reads images; “busy” the share in which the device computes, "
        "from a profile.",
        "",
        "| network | images/s | an epoch of 10,000 images | waits | busy |",
        "|---|---|---|---|---|",
    ]
    before = torch.are_deterministic_algorithms_enabled()
    make_repeatable()  # as `nonet train` does
    for architecture in plan.architectures:
        for compiled in (False, True):
            name = f"{architecture}, {'compiled' if compiled else 'eager'}"
            try:
                rate, waits, busy = training_rate(architecture, compiled, plan, device, dataset, folder)
            except Exception as error:  # of the compiler
                lines.append(f"| {name} | fails: {type(error).__name__} | – | – | – |")
                continue
            lines.append(f"| {name} | {rate:.0f} | {10_000 / rate:.0f} s | {waits:.1%} | {busy} |")
    torch.use_deterministic_algorithms(before)
    return "\n".join(lines)


def training_rate(
    architecture: str, compiled: bool, plan: Plan, device: torch.device, dataset: nonet.Dataset, folder: Path
) -> tuple[float, float, str]:
    """Return images per second, the share of time that waits for images, and the share in which the device computes."""
    torch.compiler.reset()
    recipe = plan.recipe
    folds, _ = get_folds(recipe, dataset)
    run = Run(folder / "steps")
    job = make_job(run, recipe, dataset, folds)
    member = run.member(architecture, 0)
    data = get_member_data(job, member)
    waiting = Waiting(data.images)
    training = MemberTraining(
        member,
        replace(data, images=waiting),
        recipe,
        make_fabric(accelerator=device.type),
    )
    if compiled:
        training.network.module.compile(dynamic=False, **compiler(plan, ""))
    rows = np.resize(data.train, recipe.train.batch_size)

    def step() -> None:
        training.compute_gradients(rows)
        training.optimiser.step()
        training.average.update(training.network.module)
        training.step += 1

    for _ in range(plan.blocks):
        step()
    synchronize(device)
    waiting.seconds, started = 0.0, time.perf_counter()
    for _ in range(plan.steps):
        step()
    synchronize(device)
    seconds = time.perf_counter() - started
    waits = waiting.seconds / seconds
    return plan.steps * len(rows) / seconds, waits, busy_share(step, plan, device)


def busy_share(step: Callable[[], None], plan: Plan, device: torch.device) -> str:
    if device.type != "cuda":
        return "not measured"
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        started = time.perf_counter()
        for _ in range(plan.steps):
            step()
        synchronize(device)
        seconds = time.perf_counter() - started
    # Only what ran on the device itself: the operations on the CPU that began it carry its time a second time.
    on_device = [e for e in profiled.key_averages() if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    microseconds = sum(event.self_device_time_total for event in on_device)
    return f"{microseconds / 1e6 / seconds:.0%}"


# From files to predictions.csv.


def run_timed(command: list[str]) -> tuple[float, str]:
    """Return the seconds that a process took, and what it printed."""
    started = time.perf_counter()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return time.perf_counter() - started, printed


def draw_jpegs(plan: Plan, folder: Path) -> Path:
    """Draw cells, and return a folder of them as JPEG files."""
    drawn = draw_dataset(
        folder / "cells", num_images=plan.images, size_px=plan.cell_px, seed=1, num_workers=os.cpu_count()
    )
    jpegs = folder / "jpegs"
    jpegs.mkdir()
    for file in sorted((drawn / "images").glob("*.png")):
        Image.open(file).save(jpegs / f"{file.stem}.jpg", quality=95)
    return jpegs


def end_to_end_section(plan: Plan, device: torch.device, dataset: nonet.Dataset, folder: Path) -> str:
    """Predict files with an ensemble that was trained for an epoch, and with the user's loop."""
    settings = ["models.weights=none", "train.epochs=1", "train.max_restarts=0", *plan.settings, *plan.run_settings]
    run = nonet.train("paper", dataset, out=folder / "run", settings=settings, accelerator=device.type)
    ensemble = EnsembleFile.read(run)  # after an epoch many are dead; here all count
    ensemble.updated(members=[m.model_copy(update={"weight": 1.0}) for m in ensemble.members]).write(run)
    cells = draw_jpegs(plan, folder)
    loop = [sys.executable, str(HERE / "users_loop.py"), str(run.folder), str(cells)]
    predict = [sys.executable, "-m", "nonet", "predict", str(run.folder), str(cells), "--views", "dihedral"]
    predict += ["--accelerator", device.type, "--backend", "torch", "--out", str(folder / "predicted")]
    loop += ["--device", device.type, "--out", str(folder / "loop"), "--check", str(folder / "predicted")]
    predict_seconds, _ = run_timed(predict)
    loop_seconds, printed = run_timed(loop)
    lines = [
        "## From files to predictions.csv",
        "",
        f"{plan.images} JPEG files × {len(ensemble.members)} members × 8 views, each a process of its own, "
        f"imports included. The user's loop beside `nonet predict`: {printed.strip().splitlines()[-1]}.",
        "",
        "| way | s | images/s | passes/s |",
        "|---|---|---|---|",
    ]
    passes = plan.images * len(ensemble.members) * 8
    for name, taken in (("`nonet predict`", predict_seconds), ("the user's loop", loop_seconds)):
        lines.append(f"| {name} | {taken:.1f} | {plan.images / taken:.1f} | {passes / taken:.0f} |")
    return "\n".join(lines)


# The page.


def page(sections: list[str], device: torch.device, machine: str, plan: Plan) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"device {device.type}"
    lines = [
        "# On a GPU",
        "",
        f"Made by `benchmarks/gpu.py` on {name}, with {machine} and torch {torch.__version__.split('+')[0]}: random "
        "weights, drawn cells.",
    ]
    if device.type == "cpu":
        lines += ["", "**Not measured on a GPU:** the numbers below only show that the script runs."]
    return "\n".join(lines) + "\n\n" + "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    main()
