"""What the JSON of the page answers: the schema of each answer, for /openapi.json and for those who call it."""

from typing import Any

from pydantic import BaseModel


class Problem(BaseModel):
    """Why a request was refused, in words."""

    detail: str


class CellAnswer(BaseModel):
    """A cell as it stands."""

    id: int
    version: int
    """Grows with each change; a decision names the version that the reviewer saw."""
    image: str
    sha256: str
    label: str
    predicted: str
    reason: str
    decided: bool
    confidence: float | None
    proba: dict[str, float] | None
    set: str | None
    best: str | None
    agreement: float | None
    note: str | None


class CellsAnswer(BaseModel):
    """Cells that a request has changed, as they stand now."""

    cells: list[CellAnswer]


class Conflict(Problem):
    """Why a decision was refused, with the cells that somebody else has changed."""

    cells: list[CellAnswer] = []


class CaseAnswer(BaseModel):
    """A case and how far its review has come."""

    id: int
    name: str
    digest: str
    model: str
    created_at: str
    added_by: str
    num_cells: int
    num_unidentified: int
    num_changed: int
    version: int
    signed_by: str
    signed_at: str
    comment: str
    was_reopened: bool
    is_signed: bool


class HistoryAnswer(BaseModel):
    """A decision on a cell, or a signature under a case; each has the fields of its kind."""

    id: int
    batch: int
    at: str
    who: str
    kind: str
    cell_id: int | None = None
    image: str | None = None
    position: int | None = None
    sha256: str | None = None
    from_label: str | None = None
    to_label: str | None = None
    undoes: int | None = None
    is_blind: int | None = None
    model: str | None = None
    case_id: int | None = None
    action: str | None = None
    comment: str | None = None


class PredictionAnswer(BaseModel):
    """A cell as the ensemble sees it, as a row of predictions.csv."""

    label: str
    """A class; "unidentified"; or "" where the networks gave no finite number."""
    reason: str
    """Why it has no class; "" for one that has."""
    best: str
    """The most probable class, however doubtful."""
    confidence: float | None
    """Its calibrated probability."""
    set: list[str]
    """The classes that it may be, most probable first; empty without thresholds, and for unknown cell types."""
    agreement: float | None
    """Share of the networks whose most probable class it is."""
    spread: float | None
    """Standard deviation of its probability over the networks."""
    ood_percentile: float | None
    """Share of known cells that are less unusual."""
    proba: dict[str, float] | None
    """Class → calibrated probability."""
    note: str
    """What is unusual about the image."""
    error: str
    model: str
    """Fingerprint of what predicted, the same as in cases."""
    num_members: int
    version: str
    """Of nonet."""
    notice: str


class RefusedFile(BaseModel):
    """A file that was not taken."""

    name: str
    reason: str


class ReceivedAnswer(BaseModel):
    """What became of a file that was sent."""

    num_images: int
    """Images that are new; 0 for one that was sent before."""
    refused: list[RefusedFile]


class UploadAnswer(BaseModel):
    """An upload and how far it has come."""

    id: str
    case: str
    owner: str
    state: str
    """receiving, predicting, done or failed."""
    created_at: str
    changed_at: str
    num_images: int
    num_predicted: int
    num_refused: int
    refused: list[RefusedFile]
    """The first 1,000."""
    case_id: int | None
    """Of the case, once it is done."""
    reason: str
    """Why it failed."""


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI takes as `responses`, for refusals in words.

    Parameters
    ----------
    *statuses : int

    Returns
    -------
    dict
    """
    return {status: {"model": Problem, "description": _WORDS[status]} for status in statuses}


_WORDS = {
    401: "Nobody is logged in.",
    403: "The person may not do this, or the request does not come from the page.",
    404: "It does not exist.",
    408: "The body did not arrive in time.",
    409: "It does not fit what is stored now.",
    411: "The length of the request is missing.",
    413: "The request is too large.",
    421: "The page is not served under this name.",
    422: "The request cannot be used.",
    429: "Too many images are waiting; Retry-After, if there is one, says when to try again.",
    503: "It cannot be done now.",
    507: "The disk is full.",
}
#: Of every route.
EVERYWHERE = describe(403, 404, 421, 422, 503)
#: Of every route that changes something.
CHANGES = describe(409, 411, 413, 507)
