"""`nonet count` and `nonet compare`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import nonet
from nonet.cli.options import documented_by
from nonet.cli.output import say


@documented_by("count")
def count(
    predictions: Path,
    *,
    out: Path | None = None,
    confidence: float = 0.95,
    fhir: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    say(nonet.count(predictions, out=out, confidence=confidence, fhir=fhir))


@documented_by("compare")
def compare(
    predictions: Path,
    reference: Path,
    *,
    out: Path | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> None:
    comparison = nonet.compare(
        predictions, reference, out=out, num_resamples=num_resamples, confidence=confidence, seed=seed
    )
    say(comparison)
