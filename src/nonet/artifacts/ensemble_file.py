"""ensemble.json, which people may edit: the members and their weights, and how logits become labels.

The only module that knows the file's layout. `nonet.calibration` fits the numbers.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nonet.artifacts.integrity import read_json, read_provenance
from nonet.artifacts.run import FORMAT_VERSION, Run, write_json
from nonet.errors import DamagedError, RunError
from nonet.settings import Calibrate, Probability, format_value

if TYPE_CHECKING:
    import numpy as np

#: (architecture, fold) → weight; a member that is not listed has none.
Weights = Mapping[tuple[str, int], float]
#: Largest number in the file: beyond it logits, or the sum of weights, would overflow.
MAX_NUMBER = 1_000_000
#: The largest slope of the temperature with entropy: a factor of e² between a certain and a doubtful cell.
MAX_SLOPE = 2.0

#: How many quantiles of the known cells' out-of-distribution scores are stored.
NUM_QUANTILES = 110

Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER, allow_inf_nan=False)]
PerClass = dict[str, Number]

_HINT = (
    'Fix the file; or run the same "nonet train" again, which writes a new one and keeps this one as '
    "ensemble.damaged.json."
)


class _Section(BaseModel):
    """A table of the file: strict types, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MemberEntry(_Section):
    """A member of the ensemble."""

    architecture: str
    fold: Annotated[int, Field(ge=0)]
    weight: Annotated[float, Field(ge=0, le=MAX_NUMBER, allow_inf_nan=False)]
    reason: str | None = None
    """Why its network is dead; None for a living one."""


class CalibrationSection(_Section):
    """What `nonet.calibration.calibrator.Calibration` holds; without any key nothing was fitted."""

    entropy_slope: Annotated[float, Field(ge=-MAX_SLOPE, le=MAX_SLOPE, allow_inf_nan=False)] = 0.0
    prior_strength: Number = 0.0
    bias: PerClass | None = None
    min_confidence: Probability = 0.0
    coverage: Probability | None = None
    thresholds: PerClass | None = None
    notes: list[str] = []
    settings: Calibrate | None = None


class RejectionSection(_Section):
    """What `nonet.calibration.ood.Rejection` holds."""

    false_alarm: Probability = 0.0
    quantiles: Annotated[list[float], Field(min_length=NUM_QUANTILES, max_length=NUM_QUANTILES)] | None = None
    notes: list[str] = []

    @field_validator("quantiles")
    @classmethod
    def _never_fall(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not all(after - before >= 0 for before, after in itertools.pairwise(value)):
            raise ValueError("each must be a number, and at least the one before")
        return value


class NucleusSection(_Section):
    """What `nonet.calibration.nucleus_rule.NucleusRule` holds."""

    required: bool = False
    notes: list[str] = []


class EnsembleFile(_Section):
    """The content of ensemble.json.

    Attributes
    ----------
    format_version : int
        Of the file's layout.
    classes : list of str
        Class codes, in the column order of every logit array.
    titles : dict of str to str
        How to print an architecture's key.
    members : list of MemberEntry
        Those with weight 0 take no part in predictions.
    trained_priors : dict of str to float
        Share of each class in what training drew: the class priors that the members learned.
    temperature : float
        Divides the logits, see `nonet.calibration.calibrator`.
    class_priors : dict of str to float or None
        Mean probability of each class over the images that the calibration was fitted on.
    calibration, rejection, nucleus : sections
        What each holds, see the classes.
    """

    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)] = FORMAT_VERSION
    classes: list[str]
    titles: dict[str, str] = {}
    members: list[MemberEntry]
    trained_priors: PerClass
    temperature: Annotated[float, Field(ge=1 / MAX_NUMBER, le=MAX_NUMBER, allow_inf_nan=False)] = 1.0
    class_priors: PerClass | None = None
    calibration: CalibrationSection = CalibrationSection()
    rejection: RejectionSection = RejectionSection()
    nucleus: NucleusSection = NucleusSection()

    @model_validator(mode="after")
    def _members_are_distinct(self) -> Self:
        places = [(member.architecture, member.fold) for member in self.members]
        if twice := [place for place in places if places.count(place) > 1]:
            raise ValueError(f"{twice[0][0]}, fold {twice[0][1]}, is listed twice")
        if not any(member.weight for member in self.members):
            raise ValueError("at least one member must have a weight above 0")
        return self

    @model_validator(mode="after")
    def _one_number_per_class(self) -> Self:
        tables = {
            "trained_priors": self.trained_priors,
            "class_priors": self.class_priors,
            "calibration.bias": self.calibration.bias,
            "calibration.thresholds": self.calibration.thresholds,
        }
        for name, table in tables.items():
            if table is not None and set(table) != set(self.classes):
                raise ValueError(f"{name} must have one number per class")
        return self

    @classmethod
    def read(cls, run: Run) -> Self:
        """Read a run's ensemble.json and check it against the run.

        Parameters
        ----------
        run : Run
            A run folder.

        Returns
        -------
        EnsembleFile

        Raises
        ------
        RunError
            If the file is missing, damaged, of a later nonet, or was edited so that it cannot be used; says what is
            wrong.
        """
        if not run.ensemble.exists():
            raise RunError(f"{run} is not fully trained.", hint='Run the same "nonet train" again; it resumes.')
        data = read_json(run.ensemble, hint=_HINT)
        provenance = read_provenance(run)
        try:
            ensemble = cls.model_validate(data)
            ensemble._require_members_in(provenance)
        except ValidationError as error:
            raise DamagedError(f"{run.ensemble} cannot be used: {_describe_first(error)}.", hint=_HINT) from error
        except ValueError as error:
            raise DamagedError(f"{run.ensemble} cannot be used: {error}.", hint=_HINT) from error
        return ensemble

    def write(self, run: Run) -> None:
        """Write it as the run's ensemble.json, atomically."""
        write_json(run.ensemble, self.model_dump(mode="json", exclude_none=True))

    def updated(self, **changes: Any) -> Self:
        """Return it with other values, validated."""
        return type(self).model_validate(dict(self) | changes)

    @property
    def weights(self) -> dict[tuple[str, int], float]:
        """(architecture, fold) → weight of each member listed."""
        return {(member.architecture, member.fold): float(member.weight) for member in self.members}

    @overload
    def array(self, values: PerClass) -> "np.ndarray": ...
    @overload
    def array(self, values: None) -> None: ...
    def array(self, values: PerClass | None) -> "np.ndarray | None":
        """Return a table of numbers per class as float64 (classes,), in the order of the classes."""
        import numpy as np

        return None if values is None else np.array([float(values[code]) for code in self.classes])

    def _require_members_in(self, provenance: Mapping) -> None:
        """Raise ValueError where the run was trained on other classes, or has no such member."""
        if self.classes != provenance["classes"]:
            raise ValueError(
                f"its classes are {', '.join(self.classes)}; those that the members were trained on are, in this "
                f"order, {', '.join(provenance['classes'])}"
            )
        for architecture, fold in self.weights:
            if architecture not in provenance["architectures"] or fold >= provenance["num_folds"]:
                raise ValueError(f"the run has no member {architecture}, fold {fold}")


def per_class(classes: Sequence[str], values: "np.ndarray | None") -> dict[str, float] | None:
    """Return numbers (classes,) as the file stores them: class → number; None for None."""
    return None if values is None else {code: float(value) for code, value in zip(classes, values, strict=True)}


def _describe_first(error: ValidationError) -> str:
    """Return where the first mistake is, the value, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return message
    value = "" if first["type"] == "missing" else f" is {format_value(first['input'])}"
    return f"{place}{value}: {message[:1].lower()}{message[1:]}"
