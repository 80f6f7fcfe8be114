"""Features: what a network computes of images before its head. Images are compared by them."""

import numpy as np
import torch

from nonet.data.preprocess.cache import PreparedImages
from nonet.models.network import Classifier
from nonet.models.tensors import to_device
from nonet.models.views import batches
from nonet.progress import progress_if_slow


@torch.inference_mode()
def compute_features(
    network: Classifier,
    images: PreparedImages | np.ndarray,
    rows: np.ndarray,
    *,
    device: torch.device,
    batch_size: int = 128,
    description: str | None = None,
) -> np.ndarray:
    """Compute the backbone's features of unchanged images.

    Parameters
    ----------
    network : Classifier
        In evaluation mode, on `device`; in single precision unless called under autocast.
    images : PreparedImages or ndarray of uint8, shape (all, s, s, 3)
        Read one batch at a time, so memory does not grow with their number.
    rows : ndarray of int, shape (n,)
        Row numbers into `images`; may be empty.
    device : torch.device
        Where to compute.
    batch_size : int, default 128
        Images at a time; without gradients, four times the batch of training fits.
    description : str, optional
        Of a progress bar, shown if it takes long; no bar without one.

    Returns
    -------
    ndarray of float32, shape (n, num_features)
        In the order of `rows`.
    """
    features = np.empty((len(rows), network.num_features), dtype=np.float32)
    row_batches = progress_if_slow(batches(rows, batch_size), description)
    for batch, out in zip(row_batches, batches(features, batch_size)):
        out[:] = network.features(to_device(images[batch], device)).float().cpu().numpy()
    return features
