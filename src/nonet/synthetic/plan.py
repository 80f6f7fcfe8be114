"""The plan of a drawn data set: which cell is drawn for which patient, and what is planted in it."""

from dataclasses import dataclass

import numpy as np

from nonet.cells import CLASSES
from nonet.errors import DataError
from nonet.synthetic.cells import draw_maturity

#: Corruptions of drawn cells, of those in `nonet.data.preprocess.corruptions`, and how strongly.
DRAWN_CORRUPTIONS = ("noise", "blur", "illumination")
SEVERITIES = (0, 1, 2, 3)

#: Classes that people confuse: neighbouring stages, and lookalikes. Planted label errors go to one of these.
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

#: Share of each class, roughly a blood differential's order with its long tail lifted.
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
_MIN_PATIENTS = 4  # a class is spread over as many where it can be: three folds by patient each hold some out
_MIN_IMAGES = 12  # what a default data set has of each class where it is large enough
_PRISTINE_SHARE = 0.25


@dataclass(frozen=True)
class Plan:
    """One image to draw. `corruption` is "none" where `severity` is 0."""

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
    """Share out images among the thirteen classes, roughly like a blood differential.

    Parameters
    ----------
    total : images in all.
    minimum : images that each class gets at least.

    Returns
    -------
    dict from class code, in the order of `CLASSES`, to images; the values add up to `total`.

    Raises
    ------
    DataError, where `total` does not suffice for the minimum of each class.

    Examples
    --------
    >>> counts = imbalanced_counts(1200, minimum=12)
    >>> counts["SNE"], counts["PLY"], sum(counts.values())
    (346, 13, 1200)
    """
    if minimum < 1 or total < minimum * len(CLASSES):
        raise DataError(
            f"{total} images do not give each of {len(CLASSES)} classes {minimum}.",
            f"Ask for at least {max(minimum, 1) * len(CLASSES)} images and a minimum of at least 1.",
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
    """Draw the lots of a whole data set, in the order of its files; see `phantom.draw_dataset`."""
    counts = _checked_counts(num_images)
    if num_patients < 1:
        raise DataError(f"num_patients is {num_patients}.", "Choose at least 1.")
    if not 0 <= label_error_rate < 1:
        raise DataError(f"label_error_rate is {label_error_rate}.", "Choose a share from 0 up to, but not, 1.")
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
        raise DataError(f"There is no drawing of class {unknown[0]!r}.", f"Choose from {' '.join(CLASSES)}.")
    negative = [label for label, count in num_images.items() if count < 0]
    if negative:
        raise DataError(f"num_images of {negative[0]} is {num_images[negative[0]]}.", "Choose 0 or more.")
    counts = {label: num_images[label] for label in CLASSES if num_images.get(label)}
    if not counts:
        raise DataError("num_images asks for no image at all.", "Give at least one class a count above 0.")
    return counts


def _share_among_patients(counts: dict[str, int], num_patients: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Give each class to some patients: all of them where it is common, at least four where it is rare."""
    cells = []
    burden = np.zeros(num_patients)
    for label in sorted(counts, key=lambda label: counts[label]):
        count = counts[label]
        num_carriers = min(max(count // 4, _MIN_PATIENTS), num_patients, count)
        # The least burdened come first, so that rare classes do not all meet in the same patients.
        carriers = np.argsort(burden + rng.random(num_patients), kind="stable")[:num_carriers]
        burden[carriers] += 1
        shares = rng.dirichlet(np.full(num_carriers, 3.0))
        extra = rng.multinomial(count - num_carriers, shares)
        for patient, more in zip(carriers, extra):
            cells += [(label, int(patient))] * (1 + int(more))
    return cells


def _plant_label_errors(labels: list[str], rate: float, rng: np.random.Generator) -> list[str]:
    """Return the given labels: round(rate * n) of them are a neighbour's, among the classes that are there."""
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
