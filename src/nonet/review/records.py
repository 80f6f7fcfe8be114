"""What the store of reviews takes and returns, and why it refuses."""

from dataclasses import dataclass

from nonet.errors import NonetError


class StaleCellError(NonetError):
    """Somebody else changed a cell since the reviewer saw it. `cells` has it as it stands now."""

    def __init__(self, message: str, cells: list["Cell"]):
        super().__init__(message, hint="Look at the cell again, then decide.")
        self.cells = cells


class LockedCaseError(NonetError):
    """The case is signed, so that its cells cannot be changed."""


class UnfinishedCaseError(NonetError):
    """The case cannot be signed: cells are unidentified."""


class StaleCaseError(NonetError):
    """The case cannot be signed: it was changed since the reviewer saw its differential."""


class NotSignedError(NonetError):
    """The case cannot be reopened: it is open."""


class NotFoundError(NonetError):
    """There is no such case or cell."""


@dataclass(frozen=True)
class NewCell:
    """A predicted cell, as `Store.add_case` takes it; the attributes are those of `Cell`."""

    image: str
    path: str
    sha256: str
    predicted: str
    reason: str
    facts: dict


@dataclass(frozen=True)
class Cell:
    """A cell of a case.

    Attributes
    ----------
    id, case_id, position : int
        Number, case, and place in the predictions of the case.
    image, path, sha256 : str
        Name in predictions.csv, file, and checksum of its content.
    predicted, reason : str
        Label of the ensemble, and why it is "unidentified" or "".
    facts : dict
        confidence, best (most probable class), proba (class → probability), set, agreement, note.
    label : str
        As it stands after review.
    version : int
        Grows with each change; a decision names the version that the reviewer saw.
    num_decisions : int
        Decisions that stand; 0 for a cell that nobody has looked at.
    """

    id: int
    case_id: int
    position: int
    image: str
    path: str
    sha256: str
    predicted: str
    reason: str
    facts: dict
    label: str
    version: int
    num_decisions: int = 0


@dataclass(frozen=True)
class Case:
    """A case and how far its review has come.

    Attributes
    ----------
    id : int
    name, source, digest, model : str
        Name, folder of predictions, digest of what was predicted, fingerprint of the ensemble.
    created_at : str
        ISO 8601, UTC.
    num_cells, num_unidentified, num_changed : int
        Readable images; those without a class; those whose label differs from the prediction.
    version : int
        Grows with each change of a cell; a signature names the version that the reviewer saw.
    signed_by, signed_at, comment : str
        Of the signature that stands; "" while the case is open.
    was_reopened : bool
        Whether it had been signed before.
    """

    id: int
    name: str
    source: str
    digest: str
    model: str
    created_at: str
    num_cells: int
    num_unidentified: int
    num_changed: int
    version: int
    signed_by: str = ""
    signed_at: str = ""
    comment: str = ""
    was_reopened: bool = False

    @property
    def is_signed(self) -> bool:
        """Whether it is locked."""
        return bool(self.signed_at)
