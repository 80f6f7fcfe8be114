"""What a network makes of images before its head: features, by which images are compared."""

import numpy as np
import torch

from nonet.data.prepare import PreparedImages
from nonet.models.network import Classifier
from nonet.models.views import batches, to_device


@torch.inference_mode()
def features_of(
    network: Classifier,
    images: PreparedImages | np.ndarray,
    rows: np.ndarray,
    *,
    device: torch.device,
    batch_size: int = 128,
) -> np.ndarray:
    """Return the backbone's features of untouched images, float32 (n, f), in the order of `rows`.

    Parameters
    ----------
    network : in evaluation mode, on `device`. Call under `fabric.autocast()` where the precision is a mixed one.
    images : uint8 (all, s, s, 3), read a batch at a time, so that memory does not grow with their number.
    rows : int (n,), row numbers into `images`; may be empty.
    batch_size : images at a time; without gradients, four times the batch of training fits.
    """
    features = np.empty((len(rows), network.backbone.num_features), dtype=np.float32)
    for batch, out in zip(batches(rows, batch_size), batches(features, batch_size)):
        out[:] = network.features(to_device(images[batch], device)).float().cpu().numpy()
    return features
