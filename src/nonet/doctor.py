"""`doctor`: what this machine can do, and what is missing."""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nonet.processors import num_processors

REQUIRED = ("torch", "torchvision", "timm", "lightning-fabric", "numba", "pandas", "pyarrow", "safetensors")


@dataclass(frozen=True)
class Finding:
    """One line: `state` is ok, note or missing; missing is what keeps nonet from working."""

    state: str
    what: str


@dataclass(frozen=True)
class Findings:
    """All lines, and whether nonet can work."""

    lines: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(line.state != "missing" for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(f"{line.state:8}{line.what}" for line in self.lines)


def doctor() -> Findings:
    """Look at Python, packages, processors, memory, GPU, disk and weights; load nothing that is not there."""
    lines = [Finding("ok", f"Python {sys.version.split()[0]}"), *_packages()]
    if all(line.state == "ok" for line in lines):
        lines += [_device(), *_machine(), _repeatable_write(), *_weights()]
    return Findings(tuple(lines))


def _packages() -> list[Finding]:
    lines = []
    for package in REQUIRED:
        try:
            lines.append(Finding("ok", f"{package} {metadata.version(package)}"))
        except metadata.PackageNotFoundError:
            lines.append(Finding("missing", f"{package}: pip install nonet installs it"))
    return lines


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "note", "no GPU: recipes demo, cpu and plain are made for that; paper would take days. Precision 32-true"
        )
    properties = torch.cuda.get_device_properties(0)
    precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    count = torch.cuda.device_count()
    gigabytes = properties.total_memory / 2**30
    return Finding("ok", f"{count} x {properties.name}, {gigabytes:.0f} GiB: precision auto is {precision}")


def _machine() -> list[Finding]:
    lines = [Finding("ok", f"{num_processors()} processors")]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        lines.append(Finding("ok" if gigabytes >= 4 else "note", f"{gigabytes:.0f} GiB of memory"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    lines.append(Finding("ok" if free >= 5 else "note", f"{free:.0f} GiB free on the disk of {Path.cwd()}"))
    return lines


def _repeatable_write() -> Finding:
    """Whether files can be renamed over each other here, on which resuming rests."""
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            first, second = Path(folder) / "a", Path(folder) / "b"
            first.write_text("a")
            second.write_text("b")
            first.replace(second)
    except OSError as error:
        return Finding("note", f"{Path.cwd()} cannot be written ({error.strerror}): give --out elsewhere")
    return Finding("ok", f"{Path.cwd()} can be written")


def _weights() -> list[Finding]:
    from nonet.models.backbones import BACKBONES, weights_at_hand
    from nonet.recipe import list_recipes, load_recipe

    lines = []
    for name in list_recipes():
        models = load_recipe(name).models
        if models.weights == "none":
            lines.append(Finding("ok", f"recipe {name}: needs no weights"))
            continue
        absent = {a: weights_at_hand(a) for a in models.architectures if weights_at_hand(a) != "yes"}
        if not absent:
            lines.append(Finding("ok", f"recipe {name}: weights at hand"))
        else:
            names = ", ".join(BACKBONES[a].title for a in absent)
            lines.append(
                Finding("note", f"recipe {name}: weights of {names} not at hand ({next(iter(absent.values()))})")
            )
    return lines
