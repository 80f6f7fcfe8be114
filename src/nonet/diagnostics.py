"""`doctor`: what this machine can do, and what is missing."""

import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.workers import num_processors

if TYPE_CHECKING:
    from nonet.settings import Models

# Packages are imported where they are used: if one is missing, doctor still reports which.
_MOST_PX_ON_CPU = 128  # input size; two cores train EfficientNet-Lite at 96 px in an hour


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    state : {"ok", "note", "missing"}
        With "missing", nonet cannot work.
    what : str
        The finding.
    """

    state: str
    what: str


@dataclass(frozen=True)
class Findings:
    """The report of `doctor`; printed, it is one line per finding.

    Attributes
    ----------
    lines : tuple of Finding
    """

    lines: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nonet can work here."""
        return all(line.state != "missing" for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(f"{line.state:8}{line.what}" for line in self.lines)


def doctor() -> Findings:
    """Check Python, packages, processors, memory, GPU, disk and pretrained weights; nothing is downloaded.

    Returns
    -------
    Findings
    """
    lines = [Finding("ok", f"Python {sys.version.split()[0]}"), *_packages()]
    if all(line.state == "ok" for line in lines):
        lines += [_device(), _prediction(), *_machine(), _check_writable(), *_weights()]
    return Findings(tuple(lines))


def _packages() -> list[Finding]:
    """Return the installed versions of nonet's dependencies in one line, and a line for each missing one."""
    installed, missing = [], []
    for requirement in metadata.requires("nonet") or []:
        if "extra ==" in requirement:
            continue
        package = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            installed.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(Finding("missing", f"{package}: install it with pip install nonet"))
    return [Finding("ok", ", ".join(installed)), *missing]


def _device() -> Finding:
    import torch

    from nonet.recipe import list_recipes, load_recipe

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
        what = f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        return Finding("ok", f"{what}: precision auto is {precision}")
    if torch.backends.mps.is_available():
        return Finding(
            "ok",
            "Apple GPU (mps): precision auto is 32-true. nonet is not tested on it; if it fails, use `accelerator=cpu`",
        )
    small = [name for name in list_recipes() if not _needs_gpu(load_recipe(name).models)]
    large = [name for name in list_recipes() if name not in small]
    return Finding(
        "note",
        f"no GPU: recipes {', '.join(small)} are made for CPUs; {', '.join(large)} would take days. "
        "Precision auto is 32-true",
    )


def _prediction() -> Finding:
    """Say what runs the networks at prediction by default, and whether they can be made in int8."""
    from nonet.inference.backends.choice import choose_backend

    name = choose_backend("auto", "auto")
    int8 = "int8 networks can be made" if find_spec("nncf") else "int8 networks need pip install nonet[int8]"
    return Finding("ok", f"predictions run with backend {name}; {int8}")


def _needs_gpu(models: "Models") -> bool:
    """Whether the input of a recipe's networks is so large that training them on a CPU takes days."""
    from nonet.models.backbones import get_crop

    return max(get_crop(architecture, models).size_px for architecture in models.architectures) > _MOST_PX_ON_CPU


def _machine() -> list[Finding]:
    lines = [Finding("ok", f"{num_processors()} processors")]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        lines.append(Finding("ok" if gigabytes >= 4 else "note", f"{gigabytes:.0f} GiB of memory"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    lines.append(Finding("ok" if free >= 5 else "note", f"{free:.0f} GiB free on the disk of {Path.cwd()}"))
    return lines


def _check_writable() -> Finding:
    """Check that files can be renamed over each other here, which resuming relies on."""
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            first, second = Path(folder) / "a", Path(folder) / "b"
            first.write_text("a")
            second.write_text("b")
            first.replace(second)
    except OSError as error:
        return Finding("note", f"{Path.cwd()} cannot be written ({error.strerror}): give another `out`")
    return Finding("ok", f"{Path.cwd()} can be written")


def _weights() -> list[Finding]:
    from nonet.models.backbones import BACKBONES, weights_availability
    from nonet.recipe import list_recipes, load_recipe

    lines = []
    for name in list_recipes():
        models = load_recipe(name).models
        if models.weights == "none":
            lines.append(Finding("ok", f"recipe {name}: needs no pretrained weights"))
            continue
        absent = {a: status for a in models.architectures if (status := weights_availability(a)) != "yes"}
        for way in dict.fromkeys(absent.values()):
            titles = ", ".join(BACKBONES[a].title for a in absent if absent[a] == way)
            how = way.removeprefix("no: ")
            lines.append(Finding("note", f"recipe {name}: weights of {titles} are not cached: {how}"))
        if not absent:
            lines.append(Finding("ok", f"recipe {name}: weights are cached"))
    return lines
