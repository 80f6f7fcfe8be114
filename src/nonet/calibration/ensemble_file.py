"""Reading ensemble.json, which people may edit: which members count, how much, and how logits become probabilities."""

from collections.abc import Mapping

from nonet.artifacts.integrity import UNPARSABLE, read_json, read_provenance
from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.member_weights import member_weights
from nonet.calibration.nucleus_rule import NucleusRule
from nonet.calibration.ood import Rejection
from nonet.errors import DamagedError, RunError
from nonet.recipe import Calibrate

#: Of an ensemble.json that cannot be used.
MEND = 'Mend it; or run the same "nonet train" again, which writes a new one and keeps this as ensemble.damaged.json.'


def read_description(run: Run) -> dict:
    """Read a run's ensemble.json and check what is used of it.

    Returns
    -------
    Its table: format_version, classes, members, temperature and whatever else is there.

    Raises
    ------
    RunError, saying what is wrong: it is missing, or damaged, or was edited so that it cannot be used.
    """
    if not run.ensemble.exists():
        raise RunError(f"{run} is not trained to the end.", hint='Run the same "nonet train" again; it resumes.')
    description = read_json(run.ensemble, hint=MEND)
    try:
        check_description(description, read_provenance(run))
    except DamagedError:
        raise
    except (*UNPARSABLE, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be used: {error}"
        raise RunError(f"{run.ensemble} {what.rstrip('.')}.", hint=MEND) from error
    return description


def check_description(description: Mapping, provenance: Mapping) -> None:
    """Raise KeyError, TypeError or ValueError, saying what is wrong, where ensemble.json does not fit its run."""
    classes = description["classes"]
    if classes != provenance["classes"]:
        raise ValueError(
            f"its classes are {_listed(classes)}; those that the members were trained on are, in this order, "
            f"{_listed(provenance['classes'])}"
        )
    for architecture, fold in member_weights(description):
        if architecture not in provenance["architectures"] or fold >= provenance["num_folds"]:
            raise ValueError(f"the run has no member {architecture}, fold {fold}")
    titles = description.get("titles", {})
    if not isinstance(titles, Mapping) or not all(isinstance(title, str) for title in titles.values()):
        raise ValueError("titles must be a table of names")
    Calibration.of(description, classes)
    Rejection.of(description)
    NucleusRule.of(description)
    Calibrate.model_validate((description.get("calibration") or {}).get("settings") or {})


def _listed(classes: object) -> str:
    return ", ".join(map(str, classes)) if isinstance(classes, list) else repr(classes)
