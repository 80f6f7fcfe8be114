"""Where in an image a network looked: Grad-CAM, the last feature maps weighted by the gradient of a class's logit.

It shows which places raised the logit of that class; it does not explain why.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from nonet.models.network import Classifier


def grad_cam(network: Classifier, image: torch.Tensor, class_number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Grad-CAM of one image, and its features.

    Parameters
    ----------
    network : Classifier
        In evaluation mode.
    image : Tensor of float32, shape (1, 3, s, s)
        In 0–255.
    class_number : int

    Returns
    -------
    heat : ndarray of float32, shape (h, w)
        On the grid of the last feature maps, 0 to 1.
    features : ndarray of float32, shape (num_features,)

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().requires_grad_())  # the gradient need not go further than these maps
        return kept[-1]

    with torch.inference_mode(False), torch.enable_grad():
        handle = _last_maps(network).register_forward_hook(keep)
        try:
            features = network.features(image.clone())
            logit = network.head(features)[0, class_number]
            (gradient,) = torch.autograd.grad(logit, kept[-1])
        finally:
            handle.remove()
    maps, gradient = (_as_grid(each, network.backbone) for each in (kept[-1].detach(), gradient))
    heat = torch.relu((maps * gradient.mean((0, 1))).sum(-1))
    heat = heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)
    return heat.float().cpu().numpy(), features[0].detach().float().cpu().numpy()


def _last_maps(network: Classifier) -> nn.Module:
    """Return the last module whose output still says where in the image something is.

    Of a vision transformer that is the norm before its last attention: after it only the class token counts, and the
    gradient of all places is zero.
    """
    backbone = network.backbone
    blocks = getattr(backbone, "blocks", None)
    if hasattr(backbone, "patch_embed") and blocks is not None:
        return blocks[-1].norm1
    stages = next((getattr(backbone, name) for name in ("stages", "layers", "blocks") if hasattr(backbone, name)), None)
    if network.stage_widths and stages is not None:  # the head gets what comes before the last norm
        return stages[-1]
    for name in ("norm_pre", "bn2", "norm"):  # ConvNeXt, EfficientNet, Swin
        module = getattr(backbone, name, None)
        if isinstance(module, nn.Module) and not isinstance(module, nn.Identity):
            return module
    if stages is not None:  # MobileNet and others
        return stages
    raise TypeError(f"{type(backbone).__name__} has no feature maps that are known here")


def _as_grid(tensor: torch.Tensor, backbone: nn.Module) -> torch.Tensor:
    """Return maps (h, w, channels) of one image, from (1, c, h, w), (1, h, w, c) or the tokens of a transformer."""
    if tensor.ndim == 3:
        tokens = tensor[0, getattr(backbone, "num_prefix_tokens", 0) :]
        side = round(len(tokens) ** 0.5)
        return tokens.reshape(side, side, -1)
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return tensor[0]
    return tensor[0].permute(1, 2, 0)
