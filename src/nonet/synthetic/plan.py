"""The plan of a drawn data set: which cell is drawn for which patient, and what is planted in it."""

from dataclasses import dataclass

import numpy as np

from nonet.cells import CLASSES
from nonet.errors import DataError, choose_from
from nonet.synthetic.cells import draw_maturity

#: Corruptions of drawn cells, from `nonet.data.preprocess.corruptions`, and their severities.
DRAWN_CORRUPTIONS = ("noise", "blur", "illumination")
SEVERITIES = (0, 1, 2, 3)

#: Classes that people confuse: neighbouring stages, and lookalikes. A planted label error is one of these.
NEIGHBOURS = {
    "BL": ("PMY", "PLY"),
    "PMY": ("BL", "MY"),
    "MY": ("PMY", "MMY"),
    "MMY": ("MY", "BNE"),
    "BNE": ("MMY", "SNE"),
    "SNE": ("BNE",),
    "EO": (),
    "BA": (),
    "MO": ("VLY",),
    "PLY": ("BL", "LY"),
    "LY": ("VLY", "PLY"),
    "VLY": ("LY", "MO", "PC"),
    "PC": ("VLY",),
}

#: Share of each class, roughly in the order of a blood differential, with larger shares of the rare classes.
_SHARES = {
    "SNE": 0.29,
    "LY": 0.21,
    "MO": 0.11,
    "BL": 0.09,
    "EO": 0.055,
    "MY": 0.05,
    "BNE": 0.045,
    "MMY": 0.04,
    "VLY": 0.04,
    "BA": 0.035,
    "PMY": 0.025,
    "PC": 0.018,
    "PLY": 0.012,
}
_MIN_PATIENTS = 4  # patients of a class, if possible, so that each of three folds by patient has some
_MIN_IMAGES = 12  # images of each class in a data set that is large enough
_PRISTINE_SHARE = 0.25


@dataclass(frozen=True)
class Plan:
    """One image to draw.

    Attributes
    ----------
    path : str
        Relative to the data set's folder.
    true_label, given_label : str
        Class codes; they differ for a planted label error.
    patient : str
    patient_seed : int
        Of the patient's appearance.
    seed : int
        Of the image.
    maturity : float or None
        As for `draw_cell`.
    corruption : str
        "none" where `severity` is 0.
    severity : int
    """

    path: str
    true_label: str
    given_label: str
    patient: str
    patient_seed: int
    seed: int
    maturity: float | None
    corruption: str
    severity: int


def imbalanced_counts(total: int, minimum: int = 4) -> dict[str, int]:
    """Distribute images among the thirteen classes, roughly like a blood differential.

    Parameters
    ----------
    total : int
        Images in all.
    minimum : int
        Images of each class at least.

    Returns
    -------
    dict
        Class code, in the order of `CLASSES`, → images; the values add up to `total`.

    Raises
    ------
    DataError
        When `total` is too small for the minimum of each class.

    Examples
    --------
    >>> counts = imbalanced_counts(1200, minimum=12)
    >>> counts["SNE"], counts["PLY"], sum(counts.values())
    (346, 13, 1200)
    """
    if minimum < 1 or total < minimum * len(CLASSES):
        raise DataError(
            f"{total} images are too few for {minimum} of each of {len(CLASSES)} classes.",
            f"Choose at least {max(minimum, 1) * len(CLASSES)} images and a minimum of at least 1.",
        )
    counts = {label: max(minimum, int(total * _SHARES[label])) for label in CLASSES}
    commonest_first = sorted(CLASSES, key=lambda label: -_SHARES[label])
    while (missing := total - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        for label in commonest_first:
            if missing and (step > 0 or counts[label] > minimum):
                counts[label] += step
                missing -= step
    return counts


def plan_dataset(
    num_images: int | dict[str, int], num_patients: int, seed: int, label_error_rate: float, corrupt: bool
) -> list[Plan]:
    """Make all random choices of a data set.

    Parameters
    ----------
    num_images : int or dict
    num_patients : int
    seed : int
    label_error_rate : float
    corrupt : bool
        As for `nonet.synthetic.dataset.draw_dataset`.

    Returns
    -------
    list of Plan
        In the order of the files.

    Raises
    ------
    DataError
        When an argument is invalid; it is named.
    """
    counts = _checked_counts(num_images)
    if num_patients < 1:
        raise DataError(f"num_patients is {num_patients}.", "Choose at least 1.")
    if not 0 <= label_error_rate < 1:
        raise DataError(f"label_error_rate is {label_error_rate}.", "Choose a share from 0 to below 1.")
    if seed < 0:
        raise DataError(f"seed is {seed}.", "Choose 0 or more.")
    rng = np.random.default_rng([seed, 0x9A7])
    cells = [(label, patient) for label, patient in _share_among_patients(counts, num_patients, rng)]
    cells = [cells[i] for i in rng.permutation(len(cells))]
    given = _plant_label_errors([label for label, _ in cells], label_error_rate, rng)
    patient_seeds = np.random.SeedSequence([seed, 1]).generate_state(num_patients, np.uint64)
    image_seeds = np.random.SeedSequence([seed, 2]).generate_state(len(cells), np.uint64)
    digits = max(5, len(str(len(cells))))
    plans = []
    for i, (label, patient) in enumerate(cells):
        corruption, severity = "none", 0
        if corrupt and rng.random() >= _PRISTINE_SHARE:
            corruption, severity = str(rng.choice(DRAWN_CORRUPTIONS)), int(rng.integers(1, 4))
        plans.append(
            Plan(
                path=f"images/cell_{i + 1:0{digits}d}.png",
                true_label=label,
                given_label=given[i],
                patient=f"D{patient + 1:03d}",
                patient_seed=int(patient_seeds[patient]),
                seed=int(image_seeds[i]),
                maturity=draw_maturity(label, rng),
                corruption=corruption,
                severity=severity,
            )
        )
    return plans


def _checked_counts(num_images: int | dict[str, int]) -> dict[str, int]:
    if not isinstance(num_images, dict):
        return imbalanced_counts(num_images, minimum=max(1, min(_MIN_IMAGES, num_images // len(CLASSES))))
    unknown = [label for label in num_images if label not in CLASSES]
    if unknown:
        raise DataError(f'Unknown class "{unknown[0]}".', choose_from(unknown[0], CLASSES))
    negative = [label for label, count in num_images.items() if count < 0]
    if negative:
        raise DataError(f"num_images of {negative[0]} is {num_images[negative[0]]}.", "Choose 0 or more.")
    counts = {label: num_images[label] for label in CLASSES if num_images.get(label)}
    if not counts:
        raise DataError("num_images is 0 for every class.", "Give at least one class a count above 0.")
    return counts


def _share_among_patients(counts: dict[str, int], num_patients: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Assign each class to some patients: to all of them if it is common, to at least four if it is rare."""
    cells = []
    burden = np.zeros(num_patients)
    for label in sorted(counts, key=lambda label: counts[label]):
        count = counts[label]
        num_carriers = min(max(count // 4, _MIN_PATIENTS), num_patients, count)
        # Patients with few classes come first, so that rare classes do not all go to the same patients.
        carriers = np.argsort(burden + rng.random(num_patients), kind="stable")[:num_carriers]
        burden[carriers] += 1
        shares = rng.dirichlet(np.full(num_carriers, 3.0))
        extra = rng.multinomial(count - num_carriers, shares)
        for patient, more in zip(carriers, extra):
            cells += [(label, int(patient))] * (1 + int(more))
    return cells


def _plant_label_errors(labels: list[str], rate: float, rng: np.random.Generator) -> list[str]:
    """Return the given labels, of which round(rate * n) are changed to a neighbouring class that is present."""
    present = set(labels)
    options = {label: [other for other in NEIGHBOURS[label] if other in present] for label in present}
    eligible = [i for i, label in enumerate(labels) if options[label]]
    num_errors = round(rate * len(labels))
    if num_errors > len(eligible):
        raise DataError(
            f"label_error_rate is {rate}: {num_errors} errors, but {len(eligible)} images have a neighbouring class.",
            "Lower the rate, or add classes that are neighbours (see nonet.synthetic.dataset.NEIGHBOURS).",
        )
    given = list(labels)
    for i in rng.choice(eligible, size=num_errors, replace=False) if num_errors else ():
        given[i] = str(rng.choice(options[labels[i]]))
    return given
