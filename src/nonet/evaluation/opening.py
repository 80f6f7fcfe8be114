"""Whether a run can be evaluated, as far as that can be told without pandas, which takes a second to import."""

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import require_unchanged
from nonet.artifacts.run import Run, repair_hint
from nonet.errors import DamagedError


def require_evaluable(run: Run) -> None:
    """Check that a run is trained and has the files that evaluating reads; their content is read later.

    Parameters
    ----------
    run : Run

    Raises
    ------
    RunError
        If it is not a run, is not fully trained, its recipe was changed, or a file is missing.
    """
    run.require()
    EnsembleFile.read(run)
    require_unchanged(run)
    for file in (run.oof, run.manifest, run.folds):
        if not file.exists():
            raise DamagedError(f"{file} is missing.", hint=repair_hint(run))
