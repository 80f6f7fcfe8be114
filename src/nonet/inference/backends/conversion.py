"""From PyTorch to OpenVINO."""

import warnings

import torch
from torch import nn

from nonet.inference.backends.openvino_library import openvino
from nonet.models.network import Classifier


class _WithFeatures(nn.Module):
    """A classifier that returns its features as well."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.classifier.features(images)
        return self.classifier.head(features), features


def to_openvino(network: Classifier, size_px: int) -> openvino.Model:
    """Convert a network.

    Parameters
    ----------
    network : Classifier
        On the CPU, in evaluation mode.
    size_px : int
        Side of its images.

    Returns
    -------
    openvino.Model
        float32 (n, 3, size_px, size_px) in 0–255 → "logits" (n, num_classes) and "features" (n, num_features).
    """
    example = torch.zeros(2, 3, size_px, size_px)
    with warnings.catch_warnings():
        # Of tracing: sizes become constants, which they are here, except for the number of images. It is deprecated,
        # but OpenVINO converts what torch.export makes in three times the time.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="`torch.jit.trace", category=FutureWarning)
        model = openvino.convert_model(
            _WithFeatures(network),
            example_input=example,
            input=[openvino.PartialShape([-1, 3, size_px, size_px])],
        )
    for output, name in zip(model.outputs, ("logits", "features")):
        output.get_tensor().set_names({name})
    return model
