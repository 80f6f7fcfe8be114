"""Colours of Romanowsky stains: bring an image's to those of a reference, or vary them, dye by dye.

Romanowsky stains (May-Grünwald-Giemsa, Wright) hold two dyes: azure B, blue, taken up by nuclei and basophilic
cytoplasm, and eosin, red, by red cells and eosinophilic granules. Vectors for haematoxylin and eosin do not fit them.
"""

from dataclasses import dataclass

import numpy as np
from skimage.color import lab2rgb, rgb2lab, rgb_from_bex

#: Optical densities in red, green and blue of the blue dye, the red dye, and what is neither, unit vectors in rows
#: (3, 3): Giemsa by Landini, Colour Deconvolution, as scikit-image has it.
ROMANOWSKY = rgb_from_bex / np.linalg.norm(rgb_from_bex, axis=1, keepdims=True)


@dataclass(frozen=True)
class ColourReference:
    """Mean and standard deviation of an image's pixels in CIELAB (D65): three numbers each."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


#: Medians over 300 images of Acevedo-20 (CellaVision crops, May-Grünwald-Giemsa; Acevedo et al., Data in Brief 2020).
REFERENCE = ColourReference(mean=(78.6, 11.5, 6.9), std=(16.7, 9.7, 15.2))


def normalise_colours(image: np.ndarray, reference: ColourReference = REFERENCE) -> np.ndarray:
    """Give an image the reference's mean and standard deviation in CIELAB.

    After Reinhard et al., Color transfer between images, IEEE CG&A 2001, in CIELAB instead of their lαβ.

    Parameters
    ----------
    image : uint8 (height, width, 3).
    reference : by default the colours of Acevedo-20.

    Returns
    -------
    uint8 (height, width, 3). Colours that a screen cannot show are clipped, so the result meets the reference nearly.
    """
    lab = rgb2lab(image)
    mean, std = lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))
    # Where a channel has no contrast there is none to stretch.
    gain = np.divide(reference.std, std, out=np.ones(3), where=std > 1e-3)
    moved = (lab - mean) * gain + np.array(reference.mean)
    moved[..., 0] = np.clip(moved[..., 0], 0, 100)
    return np.clip(np.rint(lab2rgb(moved) * 255), 0, 255).astype(np.uint8)


def stain_matrix(gains: np.ndarray) -> np.ndarray:
    """Return the matrices (…, 3, 3) that take optical densities (rows) to those with dyes times gains (…, 3)."""
    return np.linalg.inv(ROMANOWSKY) @ (np.asarray(gains)[..., None] * ROMANOWSKY)
