"""Colours of Romanowsky stains: bring an image's to those of a reference, or vary them, dye by dye.

Romanowsky stains (May-Grünwald-Giemsa, Wright) hold two dyes: azure B, blue, taken up by nuclei and basophilic
cytoplasm, and eosin, red, by red cells and eosinophilic granules. The usual vectors for haematoxylin and eosin do not
apply to them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from skimage.color import lab2rgb, rgb2lab, rgb_from_bex

#: Unit vectors of optical density in red, green and blue, shape (3, 3): one row for the blue dye, the red dye, and the
#: residual. Giemsa by Landini, Colour Deconvolution, as in scikit-image.
ROMANOWSKY = rgb_from_bex / np.linalg.norm(rgb_from_bex, axis=1, keepdims=True)


@dataclass(frozen=True)
class ColourReference:
    """Mean and standard deviation of an image's pixels in CIELAB (D65).

    Attributes
    ----------
    mean, std : tuple of float
        Of L*, a* and b*.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


#: Medians over 300 images of Acevedo-20 (CellaVision crops, May-Grünwald-Giemsa; Acevedo et al., Data in Brief 2020).
REFERENCE = ColourReference(mean=(78.6, 11.5, 6.9), std=(16.7, 9.7, 15.2))


def normalise_colours(image: np.ndarray, reference: ColourReference = REFERENCE) -> np.ndarray:
    """Give an image the reference's mean and standard deviation in CIELAB.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    reference : ColourReference
        By default the colours of Acevedo-20.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Colours outside sRGB are clipped, so the result matches the reference only approximately.

    References
    ----------
    Reinhard et al., Color transfer between images, IEEE CG&A 2001; here in CIELAB instead of their lαβ.
    """
    lab = rgb2lab(image)
    mean, std = lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))
    # A channel without contrast cannot be stretched.
    gain = np.divide(reference.std, std, out=np.ones(3), where=std > 1e-3)
    moved = (lab - mean) * gain + np.array(reference.mean)
    moved[..., 0] = np.clip(moved[..., 0], 0, 100)
    return np.clip(np.rint(lab2rgb(moved) * 255), 0, 255).astype(np.uint8)


def stain_matrix(gains: ArrayLike) -> np.ndarray:
    """Return matrices that scale the dyes in optical densities.

    Parameters
    ----------
    gains : array_like of float, shape (..., 3)
        Of the blue dye, the red dye and the residual.

    Returns
    -------
    ndarray of float64, shape (..., 3, 3)
        Multiply rows of optical densities by them from the right.
    """
    return np.linalg.inv(ROMANOWSKY) @ (np.asarray(gains)[..., None] * ROMANOWSKY)
