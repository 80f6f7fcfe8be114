"""`list_backbones`: the networks as a table. Without torch, as nothing is built."""

from itertools import pairwise
from typing import TYPE_CHECKING

from nonet.cells import CLASSES
from nonet.models.backbones import BACKBONES, Backbone, weights_availability
from nonet.recipe import Models

if TYPE_CHECKING:
    import pandas as pd


def list_backbones() -> "pd.DataFrame":
    """List the backbones.

    Returns
    -------
    DataFrame
        One row per backbone: its name and title, parameters in millions (with the paper's head for 13 classes), input
        size in px, the licence of its pretrained weights, and whether they are available on this machine.
    """
    import pandas as pd

    return pd.DataFrame(backbone_rows())


def backbone_rows() -> list[dict[str, object]]:
    """Return the rows of `list_backbones`, without pandas."""
    return [
        {
            "name": name,
            "title": backbone.title,
            "parameters_M": round((backbone.num_parameters + _head_parameters(backbone)) / 1e6, 1),
            "size_px": backbone.image_size_px,
            "licence": backbone.licence,
            "weights available": weights_availability(name),
        }
        for name, backbone in BACKBONES.items()
    ]


def _head_parameters(backbone: Backbone) -> int:
    """Return the number of weights and biases of the paper's head."""
    widths = [backbone.num_features, *Models(architectures=("any",)).head_widths, len(CLASSES)]
    return sum((before + 1) * after for before, after in pairwise(widths))
