"""The end of a training, without networks: join the out-of-fold logits, write ensemble.json and calibrate it."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.ensemble_file import EnsembleFile, MemberEntry
from nonet.artifacts.integrity import note_checksums, read_done
from nonet.artifacts.oof import logit_classes, logit_columns, read_oof
from nonet.artifacts.run import Member, Run, written_whole
from nonet.calibration.fit_run import write_calibrated
from nonet.errors import RunError
from nonet.recipe import Recipe, Sampling
from nonet.training.repair import set_aside_damaged_ensemble
from nonet.training.sampling import drawn_shares

logger = logging.getLogger("nonet")


def finish(run: Run, recipe: Recipe, classes: list[str], titles: dict[str, str], members: Sequence[Member]) -> None:
    """Join the members' out-of-fold logits, and write and calibrate ensemble.json.

    Dead members have weight 0, and oof.parquet is without their rows. If all are dead, those with finite logits have
    a weight nonetheless, so that there is a report that says so.

    Parameters
    ----------
    run : Run
        All members are trained.
    recipe : Recipe
        Of the run.
    classes : list of str
        Class codes.
    titles : dict of str to str
        Architecture → title.
    members : sequence of Member
        In the order of ensemble.json.

    Raises
    ------
    RunError
        If every network diverged.
    """
    tables = {member: read_oof(member.oof) for member in members}
    entries = _member_entries(run, tables)
    set_aside_damaged_ensemble(run)
    if run.ensemble.exists():  # a person may have edited the weights
        edited = EnsembleFile.read(run).weights
        entries = [e.model_copy(update={"weight": edited.get((e.architecture, e.fold), 0.0)}) for e in entries]
    stored = [table for e, table in zip(entries, tables.values()) if e.weight > 0 or e.reason is None]
    with written_whole(run.oof) as path:
        pd.concat(stored).to_parquet(path, index=False)
    note_checksums(run, [run.oof], members)
    if run.ensemble.exists():
        return
    manifest, folds = pd.read_parquet(run.manifest), read_csv(run.folds, dtype={"image_id": str})
    priors = trained_priors(manifest, folds, classes, recipe.sampling, refit=recipe.models.refit_head)
    ensemble = EnsembleFile(
        classes=list(classes),
        titles=dict(titles),
        members=entries,
        trained_priors=dict(zip(classes, priors.tolist(), strict=True)),
    )
    write_calibrated(run, recipe, ensemble, recipe.calibrate)


def _member_entries(run: Run, tables: Mapping[Member, pd.DataFrame]) -> list[MemberEntry]:
    """Return each member's entry in ensemble.json: its weight and, where that is 0, the reason."""
    entries = []
    for member in tables:
        reason = read_done(member)["dead"]
        weight = 0.0 if reason else 1.0
        entries.append(MemberEntry(architecture=member.architecture, fold=member.fold, weight=weight, reason=reason))
    if any(entry.weight for entry in entries):
        return entries
    finite = [np.isfinite(table[logit_columns(logit_classes(table))].to_numpy()).all() for table in tables.values()]
    entries = [e.model_copy(update={"weight": float(is_finite)}) for e, is_finite in zip(entries, finite)]
    first = next(iter(tables))
    if not any(entry.weight for entry in entries):
        raise RunError(
            f"No network of {run} can be used: {first.name} {entries[0].reason}, and all others failed as well.",
            hint="Train into another `out` with a lower optimiser.learning_rate_first, optimiser.warmup_epochs, or "
            "train.precision=32-true.",
        )
    logger.warning(
        f"All {len(entries)} networks of {run} are dead, first {first.name}: it {entries[0].reason}. Their "
        "predictions are useless; the report is written nonetheless. Check the labels, lower "
        "optimiser.learning_rate_first, or set optimiser.warmup_epochs."
    )
    return entries


def trained_priors(
    manifest: pd.DataFrame, folds: pd.DataFrame, classes: Sequence[str], sampling: Sampling, *, refit: bool = False
) -> np.ndarray:
    """Return the class priors that a run's members learned: the shares that training drew, see `drawn_shares`.

    Parameters
    ----------
    manifest : DataFrame
        Of the dataset.
    folds : DataFrame
        Columns image_id and fold.
    classes : sequence of str
        Class codes.
    sampling : Sampling
        The recipe's section.
    refit : bool, default False
        Heads were refitted with the same weight for every class, so they learned equal priors.

    Returns
    -------
    ndarray of float64, shape (classes,)
        Sums to 1.
    """
    rows = manifest.set_index("image_id").reindex(folds["image_id"])
    label, external = rows["label"], rows["evaluate"].eq(False).to_numpy()
    known = label.isin(classes).to_numpy()
    number = label[known].map({code: k for k, code in enumerate(classes)}).to_numpy(dtype=np.int64)
    fold = folds["fold"].to_numpy(dtype=float)[known]
    drawn = drawn_shares(number, fold, len(classes), sampling, external[known])
    learned = (drawn > 0).astype(np.float64) if refit else drawn
    return learned / learned.sum()
