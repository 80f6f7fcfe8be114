"""Work shared by the processes of a training on several devices, with the same numbers as a single process."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from nonet.models.views import batches
from nonet.progress import progress_if_slow


def compute_distributed(
    fabric: Fabric,
    rows: np.ndarray,
    compute: Callable[[np.ndarray], np.ndarray],
    *,
    width: int,
    batch_size: int,
    description: str | None = None,
) -> np.ndarray:
    """Compute numbers for each row, batch by batch; each process computes its share of the batches.

    The batches are those of a single process, so the numbers are the same to the bit.

    Parameters
    ----------
    fabric : Fabric
        Of this process.
    rows : ndarray of int, shape (n,)
        Row numbers, the same in every process; may be empty.
    compute : callable
        From row numbers (b,) to an ndarray of float32 (b, width).
    width : int
        Numbers per row.
    batch_size : int
        Rows at a time.
    description : str, optional
        Of a progress bar, shown if it takes long; no bar without one.

    Returns
    -------
    ndarray of float32, shape (n, width)
        In the order of `rows`, in every process.
    """
    results = np.zeros((len(rows), width), dtype=np.float32)
    pairs = list(zip(batches(rows, batch_size), batches(results, batch_size)))
    description = description if fabric.is_global_zero else None
    for batch, out in progress_if_slow(pairs[fabric.global_rank :: fabric.world_size], description):
        out[:] = compute(batch)
    if fabric.world_size == 1:
        return results
    # Every row is filled in by one process and 0 in all others.
    total = fabric.all_reduce(torch.from_numpy(results).to(fabric.device), reduce_op="sum")
    return cast(torch.Tensor, total).cpu().numpy()


def broadcast_network(fabric: Fabric, network: nn.Module) -> None:
    """Copy the first process's network to all others, as buffers of batch normalisation may differ between them.

    Parameters
    ----------
    fabric : Fabric
        Of this process.
    network : nn.Module
        Overwritten in all processes but the first.
    """
    if fabric.world_size > 1:
        for tensor in network.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)
