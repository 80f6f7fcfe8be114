"""Whether two runs are the same."""

import numpy as np
import pandas as pd
import safetensors.numpy


def require_same_weights(run, other):
    """The same weights of every member of the other run, to the bit."""
    weights = sorted(path.relative_to(other.folder) for path in other.folder.glob("members/*/*/weights.safetensors"))
    assert weights
    for path in weights:
        one, two = (safetensors.numpy.load_file(each.folder / path) for each in (run, other))
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[key], two[key]) for key in one), path


def require_same_run(run, other):
    """The same weights, out-of-fold logits and calibration, to the bit, and nothing half-written."""
    require_same_weights(run, other)
    pd.testing.assert_frame_equal(pd.read_parquet(run.oof), pd.read_parquet(other.oof))
    assert run.ensemble.read_text() == other.ensemble.read_text()
    assert not list(run.folder.rglob(".nonet-tmp.*")) and not list(run.folder.rglob("state*.pt"))
