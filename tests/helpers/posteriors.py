"""Logits whose temperature and priors are known, of Gaussian features."""

import numpy as np

from nonet.calibration.fitting import HeldOut


def true_posteriors(n, priors, *, separation=1.5, seed=0):
    """Labels of known priors, and the exact log posterior (but for a constant) of Gaussian features about corners."""
    rng = np.random.default_rng(seed)
    priors = np.asarray(priors, dtype=float)
    true = rng.choice(len(priors), size=n, p=priors)
    features = rng.normal(size=(n, len(priors))) + separation * np.eye(len(priors))[true]
    return separation * features + np.log(priors), true


def held_out(n=3000, priors=(0.55, 0.3, 0.1, 0.05), *, temperature=1.0, num_patients=60, seed=0, **options):
    logits, true = true_posteriors(n, priors, seed=seed, **options)
    patient = np.random.default_rng(seed).integers(num_patients, size=n)
    return HeldOut(logits * temperature, true, np.array([f"P{p}" for p in patient]), patient % 3)
