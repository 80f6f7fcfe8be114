"""Names of people, as users of the page and under decisions."""

import unicodedata

from nonet.errors import DataError

_MAX_LENGTH = 100


def require_name(text: str, *, what: str = "name", hint: str = 'Give a name such as "A. Lee".') -> str:
    """Return a name without spaces around it, in Unicode's composed form.

    Parameters
    ----------
    text : str
    what : str
        Whose name it is, for the message.
    hint : str

    Returns
    -------
    str

    Raises
    ------
    DataError
        If it is empty, long, or has characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", text.strip())
    if not name or len(name) > _MAX_LENGTH or any(unicodedata.category(one)[0] == "C" for one in name):
        raise DataError(f"The {what} must have 1 to {_MAX_LENGTH} printable characters.", hint=hint)
    return name


def name_key(name: str) -> str:
    """Return what two names have in common that differ in case, spaces or Unicode form only."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split()).encode("utf-8", "replace").decode("utf-8")
