"""What the store of reviews takes and returns, and why it refuses."""

from dataclasses import dataclass
from typing import ClassVar

from nonet.errors import DataError, NonetError


def translatable(words: str) -> str:
    """Return the words as they are; they get into the translation files."""
    return words


NOT_SAVED = translatable("The reviews cannot be read or written now, so nothing was saved. Try again.")


class ReviewError(NonetError):
    """A request that is refused, for a person on the page, in that person's language.

    Its `status` is that of HTTP.

    Parameters
    ----------
    **values : str or int
        What the words name.
    """

    status: ClassVar[int] = 422
    words: ClassVar[str]
    what_to_do: ClassVar[str] = ""

    def __init__(self, **values: str | int):
        super().__init__(self.words.format(**values), hint=self.what_to_do or None)
        self.values = values


class StaleCellError(ReviewError):
    """Somebody else changed cells since the reviewer saw them. `cells` has them as they stand now."""

    status = 409
    words = translatable("Somebody else has changed {num} of these cells; nothing was saved.")
    what_to_do = translatable("Look at them again, then decide.")

    def __init__(self, cells: "list[Cell]"):
        super().__init__(num=len(cells))
        self.cells = cells


class LockedCaseError(ReviewError):
    """The case is signed, so that its cells cannot be changed."""

    status = 409
    words = translatable('Case "{name}" was signed by {who}.')
    what_to_do = translatable("Reopen it with a reason to change it.")


class UnfinishedCaseError(ReviewError):
    """The case cannot be signed: cells are unidentified."""

    status = 409
    words = translatable("Unidentified cells: {num}.")
    what_to_do = translatable("Give each a class, or mark it as not a white cell, then sign.")


class StaleCaseError(ReviewError):
    """The case cannot be signed: it was changed since the reviewer saw its differential."""

    status = 409
    words = translatable("The case was changed since this page was opened; it was not signed.")
    what_to_do = translatable("Reload the page, and look at the differential again.")


class NotSignedError(ReviewError):
    """The case cannot be reopened: it is open."""

    status = 409
    words = translatable("The case is open already.")


class NoReasonError(ReviewError):
    """The case cannot be reopened: no reason is given."""

    words = translatable("A signed case cannot be reopened without a reason.")


class NotFoundError(ReviewError):
    """A case, a cell or a page that does not exist."""

    status = 404
    words = translatable("This page does not exist.")


class ChangedImageError(ReviewError, DataError):
    """The image is not the one that was predicted."""

    words = translatable("The image has changed since it was predicted.")
    what_to_do = translatable("Predict it again as another case.")


class MissingImageError(ReviewError, DataError):
    """The image cannot be read; the log of the program says why, and where it is."""

    words = translatable("The file of this image is missing or damaged.")


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
    added_by : str
        The user who uploaded it; "" for a case that "nonet serve" was given.
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
    added_by: str
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
