"""Words as people type them into tables: whether two read alike, and which mean that a value is not known."""

import re
import unicodedata

#: Letters of other alphabets that look like Latin ones, as they slip in from a keyboard's other layout.
_LOOK_ALIKES = str.maketrans(
    "АаВЕеЅѕІіЈјКкМмНОоРрСсТтУуХхΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "AaBEeSsIiJjKkMmHOoPpCcTtYyXxABEZHIKMNOPTYXo",
)
#: What says that a value is not known, as `_letters` has it. Nothing but punctuation says so, too.
_NOT_KNOWN = {
    *("na", "nan", "nat", "null", "nil", "none", "nul", "missing", "undefined", "undef", "void", "blank", "empty"),
    *("unknown", "unknwon", "unkown", "unknow", "unk", "unkn", "notknown", "notavailable", "notapplicable", "notgiven"),
    *("notrecorded", "notspecified", "notstated", "notprovided", "notreported", "unspecified", "unavailable", "tbd"),
    *("nodata", "novalue", "anonymous", "anon", "anonymized", "anonymised", "unbekannt", "keineangabe", "inconnu"),
    *("nopatient", "noid", "noname", "unnamed", "unassigned", "notassigned", "pending", "tba", "tbc", "todo"),
    *("unlabeled", "unlabelled", "unannotated", "notlabeled", "notlabelled", "unclassified", "unsorted"),
    *("desconocido", "sconosciuto", "nd", "ka", "ref", "value", "div0", "num", "name"),
}
_ONLY_AS_ERROR = {"ref", "value", "div0", "num", "name"}  # a spreadsheet's #REF! and the like
_ONLY_WITH_STOPS = {"nd", "ka"}  # n.d., k.A.: without stops they may be somebody's initials
_SENTINELS = {"-1", "-9", "-99", "-999", "-9999", "-1.0", "-9.0", "-99.0", "-999.0", "-9999.0"}


def visible(text: str) -> str:
    """Return a text without what cannot be seen: one Unicode form, no zero-width letters, single plain blanks."""
    text = unicodedata.normalize("NFKC", text)
    text = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text if unicodedata.category(c) != "Cf")
    return re.sub(" +", " ", text).strip()  # a line break within is not invisible


def plain_letters(text: str) -> str:
    """Return a text in lower case, without accents, and with Latin letters in place of others that look like them."""
    text = unicodedata.normalize("NFKD", visible(text).translate(_LOOK_ALIKES))
    # The accents of Latin, Greek and Cyrillic letters only: other scripts have marks that make another word.
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", text)).casefold()


def has_look_alikes(text: str) -> bool:
    """Say whether a text holds letters of other alphabets that look like Latin ones."""
    return text != text.translate(_LOOK_ALIKES)


def read_alike(text: str) -> str:
    """Return what two labels have in common that a person would read as one.

    Letter case, accents, blanks, hyphens and underscores between words and before a number, zeros around a number,
    Unicode forms, look-alike letters of other alphabets and the plural of the last word do not count. A sign at the
    end, as in CD4+ and CD4-, does.
    """
    text = re.sub(r"(?<=\w)[\s_\-\u2010-\u2015]+(?=\w)", " ", plain_letters(text).replace("_", " ")).strip()
    text = re.sub(r"(?<=[^\W\d])(?=\d)", " ", text)
    text = re.sub(r"\s+(?=[+\-]+$)", "", text)
    if re.fullmatch(r"\d+(\.0+)?", text):
        return text.split(".")[0].lstrip("0") or "0"
    # Not of abbreviations, nor of words like "basis" and "nucleus" that end so in the singular.
    return re.sub(r"(?<=[a-z]{4})(?<![sui])s$", "", text)


def is_not_known(text: str, *, numbers: bool = False) -> bool:
    """Say whether a cell of a table says that its value is not known: "", "nan", "N/A", "unknown", "?", "#REF!" ….

    Parameters
    ----------
    text : as the table has it.
    numbers : whether -1, -99, -999 and the like say so, too: of names they do, of measurements they may not.
    """
    plain = visible(text).casefold()
    if numbers and plain in _SENTINELS:
        return True
    letters = re.sub(r"[\W_]+", "", plain)
    if letters in _ONLY_AS_ERROR:
        return plain.startswith("#")
    if letters in _ONLY_WITH_STOPS:
        return "." in plain
    return not letters or letters in _NOT_KNOWN
