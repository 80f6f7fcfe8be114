"""From PyTorch to OpenVINO, and from single precision to int8."""

import contextlib
import io
import logging
import warnings

import numpy as np
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


def to_int8(model: openvino.Model, images: np.ndarray) -> openvino.Model:
    """Quantise a network after training, with NNCF.

    The first convolution and the head stay in single precision, and biases are corrected layer by layer, on what the
    quantised layers before them compute. Of what was tried, this keeps most decisions at this speed (decision 30).

    Parameters
    ----------
    model : openvino.Model
        As `to_openvino` returns it.
    images : ndarray of uint8, shape (n, s, s, 3)
        Training images, to calibrate with: some hundred.

    Returns
    -------
    openvino.Model
        With the same inputs and outputs.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # it reports each step
    layers = {
        kind: [layer.get_friendly_name() for layer in model.get_ordered_ops() if layer.get_type_name() in types]
        for kind, types in (("convolutions", ("Convolution", "GroupConvolution")), ("products", ("MatMul",)))
    }
    single = layers["convolutions"][:1] + layers["products"][-1:]
    tensors = [np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) for image in images]
    with contextlib.redirect_stdout(io.StringIO()):  # it has progress bars of its own
        return nncf.quantize(
            model,
            nncf.Dataset(tensors),
            subset_size=len(tensors),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=single),
        )
