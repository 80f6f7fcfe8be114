"""Whether an image without anything that could be a nucleus is unidentified. NumPy in, NumPy out."""

from dataclasses import dataclass, field

import numpy as np

from nonet.artifacts.ensemble_file import EnsembleFile, NucleusSection

#: Where more of the known cells than this show no nucleus, the images are of another kind: none is asked for one.
MOST_WITHOUT = 0.01


@dataclass(frozen=True)
class NucleusRule:
    """Whether a run's images are asked for a nucleus. Without arguments they are not.

    Attributes
    ----------
    required : whether what shows no nucleus is unidentified.
    notes : sentences on what that was decided by.
    """

    required: bool = False
    notes: list[str] = field(default_factory=list)

    def finds_none(self, shows: np.ndarray) -> np.ndarray:
        """Say which images are unidentified for it, bool (n,), of which show what could be a nucleus."""
        return ~np.asarray(shows, dtype=bool) & self.required

    @classmethod
    def from_ensemble(cls, ensemble: EnsembleFile) -> "NucleusRule":
        """Return the rule that ensemble.json holds."""
        return cls(ensemble.nucleus.required, list(ensemble.nucleus.notes))

    def to_section(self) -> NucleusSection:
        """Return the section of ensemble.json that holds it."""
        return NucleusSection(required=self.required, notes=self.notes)


def fit_nucleus_rule(shows: np.ndarray | None, *, required: bool) -> NucleusRule:
    """Decide it by the known cells held out.

    Parameters
    ----------
    shows : bool (n,), whether each shows what could be a nucleus; None where nobody looked.
    required : what the recipe asks for.

    Returns
    -------
    NucleusRule; one that asks for nothing, and says why, where too many known cells show none: drawings, fluorescence,
    stains that leave nuclei pale.
    """
    if not required:
        return NucleusRule(False, ["Images are not asked for a nucleus: calibrate.require_nucleus is false."])
    if shows is None:
        return NucleusRule(False, ["Images are not asked for a nucleus: oof.parquet does not say which show one."])
    without, num_images = int((~np.asarray(shows, dtype=bool)).sum()), len(shows)
    if without > MOST_WITHOUT * num_images:
        return NucleusRule(
            False,
            [
                f"Images are not asked for a nucleus, as {without:,} of {num_images:,} known cells show none to the "
                "check of stained smears. So an empty field is found by the networks' features or not at all."
            ],
        )
    return NucleusRule(
        True, [f"An image without a nucleus is unidentified: {without:,} of {num_images:,} known cells."]
    )
