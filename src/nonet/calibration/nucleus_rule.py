"""Whether an image without anything that could be a nucleus is unidentified. NumPy in, NumPy out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

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

    def describe(self) -> dict:
        """Return it as `ensemble.json` keeps it, under the key "nucleus"."""
        return {"required": self.required, "notes": self.notes}

    @classmethod
    def of(cls, description: Mapping) -> "NucleusRule":
        """Read it from what `ensemble.json` holds.

        Raises
        ------
        ValueError, saying what is wrong: people may edit the file.
        """
        kept = description.get("nucleus", {"required": False})
        if not isinstance(kept, Mapping) or not isinstance(kept.get("required"), bool):
            raise ValueError(f"nucleus is {kept!r}, and must be a table in which required is true or false")
        notes = kept.get("notes", [])
        if not isinstance(notes, list):
            raise ValueError(f"notes is {notes!r}, and must be a list of sentences")
        return cls(kept["required"], [str(note) for note in notes])


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
