"""What unknown cells that a member may know say about others: the log-odds of one more class. NumPy in, NumPy out."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class UnknownHead:
    """A linear head with one more class, of unknown cells; it rejects, and names no class.

    Attributes
    ----------
    weight : ndarray of float32, shape (num_classes + 1, f)
    bias : ndarray of float32, shape (num_classes + 1,)
        Logits are `features @ weight.T + bias`; the last is that of unknown cells.
    """

    weight: np.ndarray
    bias: np.ndarray

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """Return the log-odds of unknown against all classes.

        Parameters
        ----------
        features : ndarray of float, shape (n, f)
            Of any images.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        logits = (features @ self.weight.T + self.bias).astype(np.float64)
        return logits[:, -1] - logsumexp(logits[:, :-1], axis=1)
