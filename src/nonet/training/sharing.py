"""Work that the processes of a training over several devices share, with the numbers of a single one."""

from collections.abc import Callable

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from nonet.models.views import batches
from nonet.progress import slowly


def compute_together(
    fabric: Fabric,
    rows: np.ndarray,
    compute: Callable[[np.ndarray], np.ndarray],
    *,
    width: int,
    batch_size: int,
    description: str | None = None,
) -> np.ndarray:
    """Compute some numbers of each row, batch by batch, every process its share of the batches.

    The batches are those of a single process, so the numbers are, too, to the bit.

    Parameters
    ----------
    rows : (n,), row numbers, the same in every process; may be empty.
    compute : from row numbers (b,) to float32 (b, width).
    description : of a bar that shows where it takes long; none without.

    Returns
    -------
    float32 (n, width), in the order of `rows`, in every process.
    """
    results = np.zeros((len(rows), width), dtype=np.float32)
    pairs = list(zip(batches(rows, batch_size), batches(results, batch_size)))
    description = description if fabric.is_global_zero else None
    for batch, out in slowly(pairs[fabric.global_rank :: fabric.world_size], description):
        out[:] = compute(batch)
    if fabric.world_size == 1:
        return results
    # Every row is filled in by one process and 0 in all others.
    whole = torch.from_numpy(results).to(fabric.device)
    return fabric.all_reduce(whole, reduce_op="sum").cpu().numpy()


def take_from_first(fabric: Fabric, network: nn.Module) -> None:
    """Give every process the network of the first; buffers of batch normalisation may differ by what each saw."""
    if fabric.world_size > 1:
        for tensor in network.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)
