"""What a network makes of images before its head: features, by which images are compared."""

from pathlib import Path

import numpy as np
import torch

from nonet.artifacts.run import written_whole
from nonet.data.preprocess.cache import PreparedImages
from nonet.models.network import Classifier
from nonet.models.views import batches, to_device
from nonet.progress import slowly

MAX_COMPONENTS = 64


@torch.inference_mode()
def features_of(
    network: Classifier,
    images: PreparedImages | np.ndarray,
    rows: np.ndarray,
    *,
    device: torch.device,
    batch_size: int = 128,
    description: str | None = None,
) -> np.ndarray:
    """Return the backbone's features of untouched images, float32 (n, f), in the order of `rows`.

    Parameters
    ----------
    network : in evaluation mode, on `device`; in single precision unless called under autocast.
    images : uint8 (all, s, s, 3), read a batch at a time, so that memory does not grow with their number.
    rows : int (n,), row numbers into `images`; may be empty.
    batch_size : images at a time; without gradients, four times the batch of training fits.
    description : of a bar that shows where it takes long; none without.
    """
    features = np.empty((len(rows), network.backbone.head_hidden_size), dtype=np.float32)
    cut = slowly(batches(rows, batch_size), description)
    for batch, out in zip(cut, batches(features, batch_size)):
        out[:] = network.features(to_device(images[batch], device)).float().cpu().numpy()
    return features


def reduced(features: np.ndarray, *, max_components: int = MAX_COMPONENTS) -> np.ndarray:
    """Return the principal components of features brought to unit length, float16 (n, at most `max_components`).

    Euclidean distances between rows are about those of the whole features' directions, so a nearest neighbour is one
    by cosine. The components are those of these very features, the ones to be compared: no other choice keeps more of
    the distances between them. The training images' would not do as well: a network draws those together class by
    class, so their components are mostly differences between classes, while held-out cells differ in other ways too.

    Parameters
    ----------
    features : float32 (n, f). What is not finite, from a member that diverged, counts as 0.
    """
    directions = np.nan_to_num(features.astype(np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    directions -= directions.mean(axis=0)
    _, axes = np.linalg.eigh(directions.T @ directions)  # from the least to the greatest variance
    return (directions @ axes[:, ::-1][:, :max_components]).astype(np.float16)


def write_features(path: Path, image_id: np.ndarray, features: np.ndarray) -> None:
    """Write `image_id` (n,) and the reduced `features` (n, d) as one npz file."""
    with written_whole(path) as temporary:
        np.savez_compressed(temporary, image_id=np.asarray(image_id, dtype=str), features=reduced(features))
