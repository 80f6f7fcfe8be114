"""One image looked at closely: what each member calls it, where in it the networks looked, and its features."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.special import softmax

from nonet.data.preprocess.crop import Crop
from nonet.inference.ensemble import Ensemble
from nonet.inference.members import LoadedMember
from nonet.models.grad_cam import grad_cam
from nonet.models.tensors import to_device
from nonet.models.views import View


@dataclass(frozen=True)
class Inspection:
    """An image as each member sees it.

    Attributes
    ----------
    members : list of str
        ARCHITECTURE/fold-K of each.
    proba : ndarray of float64, shape (num_members, num_classes)
        Of each member, averaged over views and calibrated as the ensemble's.
    heat : ndarray of float32, shape (height, width)
        Where the networks looked for the class asked about, 0 to 1, over the pixels of the image. All 0 where nothing
        raises its logit.
    features : dict of str to ndarray of float32, shape (num_features,)
        Member → its features of the image.
    """

    members: list[str]
    proba: np.ndarray
    heat: np.ndarray
    features: dict[str, np.ndarray]


def inspect(ensemble: Ensemble, pixels: np.ndarray, code: str, views: list[View]) -> Inspection:
    """Look at an image closely.

    Parameters
    ----------
    ensemble : Ensemble
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.
    code : str
        The class for whose logit the heat map is made.
    views : list of View
        Probabilities are averaged over them.

    Returns
    -------
    Inspection
    """
    prepared = ensemble.prepare(pixels)
    logits = ensemble.member_logits({crop: np.array(image)[None] for crop, image in prepared.items()}, views)
    heat = np.zeros(pixels.shape[:2], dtype=np.float32)
    features = {}
    for member, weight in zip(ensemble.members, ensemble.member_weights):
        network = ensemble.torch_networks[member.name]
        seen = to_device(np.array(prepared[member.crop])[None], network.device)
        maps, features[member.name] = grad_cam(network.module, seen, ensemble.classes.index(code))
        heat += np.float32(weight) * _over_image(maps, member, pixels.shape[:2])
    top = float(heat.max())
    return Inspection(
        members=[member.name for member in ensemble.members],
        proba=softmax(ensemble.calibration.apply(logits[:, 0].astype(np.float64)), axis=-1),
        heat=heat / top if top > 0 else heat,
        features=features,
    )


def _over_image(heat: np.ndarray, member: LoadedMember, shape: tuple[int, int]) -> np.ndarray:
    """Lay a member's map over the image, of which the member may see the central square only."""
    height, width = shape
    top, left, tall, wide = _frame(member.crop, height, width)
    image = Image.fromarray(heat.astype(np.float32), mode="F").resize((wide, tall), Image.Resampling.BICUBIC)
    whole = np.zeros(shape, dtype=np.float32)
    whole[top : top + tall, left : left + wide] = np.clip(np.asarray(image), 0, 1)
    return whole


def _frame(crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of what a crop shows of an image, as `crop_centre` cuts it."""
    if crop.centre == 1:
        return 0, 0, height, width
    side = max(1, round(crop.centre * min(height, width)))
    return (height - side) // 2, (width - side) // 2, side, side
