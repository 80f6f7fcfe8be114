"""Features: what a network computes of images before its head. Images are compared by them."""

from pathlib import Path

import numpy as np
import torch

from nonet.artifacts.run import written_whole
from nonet.data.preprocess.cache import PreparedImages
from nonet.models.network import Classifier
from nonet.models.views import batches, to_device
from nonet.progress import progress_if_slow

#: Principal components that are stored of each image's features.
MAX_COMPONENTS = 64


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


def reduce_features(features: np.ndarray, *, max_components: int = MAX_COMPONENTS) -> np.ndarray:
    """Reduce features, each scaled to unit length, to their principal components.

    Euclidean distances between the rows are about those between the directions of the full features, so nearest
    neighbours are those by cosine. The components are fitted to these very features, the ones to be compared, as no
    other choice preserves the distances between them better. Components of the training images would be worse: a
    network draws those together class by class, so their components are mostly differences between classes, while
    held-out cells differ in other ways too.

    Parameters
    ----------
    features : ndarray of float, shape (n, f)
        Non-finite values, of a member that diverged, count as 0.
    max_components : int, default MAX_COMPONENTS
        Largest number of components.

    Returns
    -------
    ndarray of float16, shape (n, min(f, max_components))
    """
    directions = np.nan_to_num(features.astype(np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    directions -= directions.mean(axis=0)
    _, axes = np.linalg.eigh(directions.T @ directions)  # in ascending order of variance
    return (directions @ axes[:, ::-1][:, :max_components]).astype(np.float16)


def write_features(path: Path, image_id: np.ndarray, features: np.ndarray) -> None:
    """Write reduced features as one .npz file with arrays `image_id` and `features`.

    Parameters
    ----------
    path : Path
    image_id : ndarray of str, shape (n,)
    features : ndarray of float, shape (n, f)
        Before `reduce_features`.
    """
    with written_whole(path) as temporary:
        np.savez_compressed(temporary, image_id=np.asarray(image_id, dtype=str), features=reduce_features(features))
