"""Work shared by the processes of a training: in order, whole, and with the numbers of one."""

from functools import partial

import numpy as np
import pytest
import torch

from nonet.models.device import make_fabric
from nonet.training.distributed import broadcast_network, compute_distributed

pytestmark = pytest.mark.slow

ROWS = np.array([7, 3, 0, 11, 5, 2, 9])


def results(fabric, out):
    """Each of several sizes, the empty one and one smaller than the number of processes among them."""
    calls, results = [], []

    def compute(rows):
        calls.append(len(rows))
        values = np.stack([rows * 0.1, np.sqrt(rows), rows - 1e-3], axis=1).astype(np.float32)
        return np.where(rows[:, None] == 11, np.nan, values)

    for num in (7, 4, 1, 0):
        results.append(compute_distributed(fabric, ROWS[:num], compute, width=3, batch_size=2))
    network = torch.nn.BatchNorm1d(3)
    network.running_mean.fill_(fabric.global_rank + 1.0)
    broadcast_network(fabric, network)
    torch.save({"results": results, "calls": calls, "mean": network.running_mean}, out / f"{fabric.global_rank}.pt")


@pytest.fixture(scope="module")
def by_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    results(make_fabric(accelerator="cpu"), folder / "one")
    make_fabric(accelerator="cpu", devices=2).launch(partial(results, out=folder / "two"))
    return [torch.load(folder / name, weights_only=False) for name in ("one/0.pt", "two/0.pt", "two/1.pt")]


def test_every_process_has_all_rows_in_order_to_the_bit(by_process):
    alone, *together = by_process
    np.testing.assert_allclose(alone["results"][0][:, 2], np.where(ROWS == 11, np.nan, ROWS - 1e-3), rtol=1e-6)
    for process in together:
        for one, other in zip(alone["results"], process["results"], strict=True):
            np.testing.assert_array_equal(one, other)


def test_each_process_computes_its_share_of_the_batches_of_one(by_process):
    alone, first, second = by_process
    assert alone["calls"] == [2, 2, 2, 1, 2, 2, 1]
    assert (first["calls"], second["calls"]) == ([2, 2, 2, 1], [2, 1, 2])


def test_all_have_the_network_of_the_first(by_process):
    assert [process["mean"].tolist() for process in by_process] == [[1.0] * 3] * 3
