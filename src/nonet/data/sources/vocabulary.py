"""Words as people type them into tables: which read alike, and which mean that a value is missing."""

import re
import unicodedata

#: Letters of other alphabets that look like Latin ones, which another keyboard layout types.
_LOOK_ALIKES = str.maketrans(
    "АаВЕеЅѕІіЈјКкМмНОоРрСсТтУуХхΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "AaBEeSsIiJjKkMmHOoPpCcTtYyXxABEZHIKMNOPTYXo",
)
#: Words for a missing value, reduced to their letters. A value of punctuation only is missing as well.
_MISSING = {
    *("na", "nan", "nat", "null", "nil", "none", "nul", "missing", "undefined", "undef", "void", "blank", "empty"),
    *("unknown", "unknwon", "unkown", "unknow", "unk", "unkn", "notknown", "notavailable", "notapplicable", "notgiven"),
    *("notrecorded", "notspecified", "notstated", "notprovided", "notreported", "unspecified", "unavailable", "tbd"),
    *("nodata", "novalue", "anonymous", "anon", "anonymized", "anonymised", "unbekannt", "keineangabe", "inconnu"),
    *("nopatient", "noid", "noname", "unnamed", "unassigned", "notassigned", "pending", "tba", "tbc", "todo"),
    *("unlabeled", "unlabelled", "unannotated", "notlabeled", "notlabelled", "unclassified", "unsorted"),
    *("desconocido", "sconosciuto", "nd", "ka", "ref", "value", "div0", "num", "name"),
}
_ONLY_AS_ERROR = {"ref", "value", "div0", "num", "name"}  # a spreadsheet's #REF! and the like
_ONLY_WITH_STOPS = {"nd", "ka"}  # n.d., k.A.: without full stops they may be initials
_SENTINELS = {"-1", "-9", "-99", "-999", "-9999", "-1.0", "-9.0", "-99.0", "-999.0", "-9999.0"}


def visible(text: str) -> str:
    """Return a text without invisible differences: one Unicode form, no zero-width characters, single plain blanks.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text if unicodedata.category(c) != "Cf")
    return re.sub(" +", " ", text).strip()  # a line break within the text is visible


def plain_letters(text: str) -> str:
    """Return a text in lower case, without accents, and with Latin letters in place of others that look like them.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    text = unicodedata.normalize("NFKD", visible(text).translate(_LOOK_ALIKES))
    # Only accents of Latin, Greek and Cyrillic letters: in other scripts marks distinguish words.
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", text)).casefold()


def has_look_alikes(text: str) -> bool:
    """Tell whether a text contains letters of other alphabets that look like Latin ones.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool
    """
    return text != text.translate(_LOOK_ALIKES)


def canonical_form(text: str) -> str:
    """Return a form that is the same for labels that a person would read as the same.

    Letter case, accents, blanks, hyphens and underscores between words and before a number, zeros around a number,
    Unicode forms, look-alike letters of other alphabets and the plural of the last word are ignored. A sign at the
    end, as in CD4+ and CD4-, is not.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    text = re.sub(r"(?<=\w)[\s_\-\u2010-\u2015]+(?=\w)", " ", plain_letters(text).replace("_", " ")).strip()
    text = re.sub(r"(?<=[^\W\d])(?=\d)", " ", text)
    text = re.sub(r"\s+(?=[+\-]+$)", "", text)
    if re.fullmatch(r"\d+(\.0+)?", text):
        return text.split(".")[0].lstrip("0") or "0"
    # Not for abbreviations, nor for words such as "basis" and "nucleus" that end in s in the singular.
    return re.sub(r"(?<=[a-z]{4})(?<![sui])s$", "", text)


def is_missing_value(text: str, *, numbers: bool = False) -> bool:
    """Tell whether a cell of a table means that its value is missing: "", "nan", "N/A", "unknown", "?", "#REF!" …

    Parameters
    ----------
    text : str
        The cell.
    numbers : bool
        Whether -1, -99, -999 and the like mean so too: among names they do, among measurements they may not.

    Returns
    -------
    bool
    """
    plain = visible(text).casefold()
    if numbers and plain in _SENTINELS:
        return True
    letters = re.sub(r"[\W_]+", "", plain)
    if letters in _ONLY_AS_ERROR:
        return plain.startswith("#")
    if letters in _ONLY_WITH_STOPS:
        return "." in plain
    return not letters or letters in _MISSING
