"""`list_backbones`: the networks as a table."""

import pandas as pd
import torch

from nonet.models.backbones import BACKBONES, weights_availability
from nonet.models.network import count_parameters, make_classifier
from nonet.recipe import Models


def list_backbones() -> pd.DataFrame:
    """List the backbones.

    Returns
    -------
    DataFrame
        One row per backbone: its name and title, parameters in millions (with the paper's head for 13 classes), input
        size in px, the licence of its pretrained weights, and whether they are available on this machine.
    """
    rows = []
    for name, backbone in BACKBONES.items():
        models = Models(architectures=(name,), weights="none")
        with torch.device("meta"):  # shapes without memory or random numbers
            network, _ = make_classifier(name, models, 13, trained=True)
        rows.append(
            {
                "name": name,
                "title": backbone.title,
                "parameters_M": round(count_parameters(network) / 1e6, 1),
                "size_px": backbone.image_size_px,
                "licence": backbone.licence,
                "weights available": weights_availability(name),
            }
        )
    return pd.DataFrame(rows)
