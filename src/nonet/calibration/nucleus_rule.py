"""Whether an image that shows nothing like a nucleus is unidentified. NumPy in, NumPy out."""

from dataclasses import dataclass, field

import numpy as np

from nonet.artifacts.ensemble_file import EnsembleFile, NucleusSection

#: If a larger share of the known cells shows no nucleus, the check does not suit these images and is not applied.
MOST_WITHOUT = 0.01


@dataclass(frozen=True)
class NucleusRule:
    """Whether images must show a nucleus to be identified. By default they need not.

    Attributes
    ----------
    required : bool
        Whether an image that shows none is unidentified.
    notes : list of str
        Sentences on how that was decided.
    """

    required: bool = False
    notes: list[str] = field(default_factory=list)

    def rejects(self, shows: np.ndarray) -> np.ndarray:
        """Return which images are unidentified by this rule.

        Parameters
        ----------
        shows : ndarray of bool, shape (n,)
            Whether each image shows anything that could be a nucleus.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        return ~np.asarray(shows, dtype=bool) & self.required

    @classmethod
    def from_ensemble(cls, ensemble: EnsembleFile) -> "NucleusRule":
        """Return the rule that ensemble.json holds."""
        return cls(ensemble.nucleus.required, list(ensemble.nucleus.notes))

    def to_section(self) -> NucleusSection:
        """Return the section of ensemble.json that holds it."""
        return NucleusSection(required=self.required, notes=self.notes)


def fit_nucleus_rule(shows: np.ndarray | None, *, required: bool) -> NucleusRule:
    """Decide from the known cells held out.

    Parameters
    ----------
    shows : ndarray of bool, shape (n,), or None
        Whether each shows anything that could be a nucleus; None if that was not checked.
    required : bool
        The recipe's `calibrate.require_nucleus`.

    Returns
    -------
    NucleusRule
        One that requires nothing, with a note, if too many known cells show none: drawings, fluorescence, or stains
        that leave nuclei pale.
    """
    if not required:
        return NucleusRule(False, ["No nucleus is required: calibrate.require_nucleus is false."])
    if shows is None:
        return NucleusRule(False, ["No nucleus is required: oof.parquet does not say which images show one."])
    without, num_images = int((~np.asarray(shows, dtype=bool)).sum()), len(shows)
    if without > MOST_WITHOUT * num_images:
        return NucleusRule(
            False,
            [
                f"No nucleus is required, as the check for stained smears finds none in {without:,} of {num_images:,} "
                "known cells. An empty field is then detected by the networks' features or not at all."
            ],
        )
    return NucleusRule(True, [f"Images without a nucleus are unidentified: {without:,} of {num_images:,} known cells."])
