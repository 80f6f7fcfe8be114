"""The languages of the pages: English, German, and those of translation files that a laboratory gives.

A translation is one PO file, as gettext and its editors know it; `languages/nonet.pot` has every text of the pages and
every class. Names, texts and classes are translated; what a file of results or an error of the library says is English.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from babel import Locale, UnknownLocaleError, negotiate_locale
from babel.messages.catalog import Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from babel.support import NullTranslations, Translations
from fastapi import Request

from nonet.artifacts.integrity import reading
from nonet.errors import DataError

FOLDER = Path(__file__).parent / "languages"
#: The cookie with the language that a person chose; without it, the browser's preference counts.
COOKIE = "nonet_language"
#: A value in a text: {name} or %(name)s, or a per cent sign that is to be printed.
_PLACEHOLDER = re.compile(r"\{\w*\}|%\(\w+\)s|%(?![%(])")
_HINT = "Copy languages/de.po of the package nonet.review, and translate its texts with a PO editor."


@dataclass(frozen=True)
class Language:
    """A language of the pages.

    Attributes
    ----------
    code : str
        Such as "de", as HTML has it.
    name : str
        In the language itself.
    translations : NullTranslations
        With `gettext` and `ngettext`.
    texts : dict of str to str or list of str
        English → translation, for scripts; a list has the forms of a plural.
    """

    code: str
    name: str
    translations: NullTranslations
    texts: dict


ENGLISH = Language("en", "English", NullTranslations(), {})


class Languages:
    """Those that a page can be shown in.

    Parameters
    ----------
    files : sequence of Path
        Translations besides those of the package; one of a language that is there already replaces it.

    Raises
    ------
    DataError
        If a file is not a translation.
    """

    def __init__(self, files: Sequence[Path] = ()):
        read = [read_language(file) for file in (*sorted(FOLDER.glob("*.po")), *files)]
        self.by_code = {language.code: language for language in (ENGLISH, *read)}

    def choose(self, request: Request) -> Language:
        """Return the language of a request: the one that was chosen, or else the browser's, or else English."""
        chosen = request.cookies.get(COOKIE, "")
        if chosen in self.by_code:
            return self.by_code[chosen]
        preferred = _by_preference(request.headers.get("accept-language", ""))
        return self.by_code[negotiate_locale(preferred, [*self.by_code], sep="-") or "en"]


def _by_preference(header: str) -> list[str]:
    """Return the languages of an Accept-Language header, the most wanted first; those with weight 0 are left out."""
    weights = {}
    for part in header.split(","):
        code, _, weight = part.partition(";q=")
        weights[code.strip()] = float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight.strip()) else 1.0
    return sorted((code for code, weight in weights.items() if weight), key=lambda code: -weights[code])


def read_language(file: Path) -> Language:
    """Read a translation file.

    Raises
    ------
    DataError
        If it is not one, or does not say which language it has.
    """
    with reading(file, hint=_HINT), file.open("rb") as stream:
        try:
            catalogue = read_po(stream, abort_invalid=True)
        except (PoFileError, UnicodeDecodeError, UnknownLocaleError, ValueError) as error:
            raise DataError(f"{file} is not a translation (PO file): {error}.", hint=_HINT) from error
    locale = catalogue.locale
    if not isinstance(locale, Locale):
        raise DataError(f'{file} does not say which language it has: its header needs "Language: fr".', hint=_HINT)
    for one in catalogue:
        wrong = _unknown_placeholders(one) if one.id else []  # the header has none
        if wrong:
            raise DataError(
                f"{file}: the translation of “{_as_list(one.id)[0]}” has {', '.join(wrong)}, the English text has not.",
                hint="Keep {names} and %(names)s as they are.",
            )
    translated = [one for one in catalogue if one.id and one.string and not one.fuzzy]
    texts = {_as_list(one.id)[0]: one.string for one in translated if all(_as_list(one.string))}
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    code = str(locale).replace("_", "-")
    return Language(code, locale.get_display_name() or code, Translations(compiled), texts)


def _as_list(text: object) -> list[str]:
    """Return the forms of a text: one, or those of a plural."""
    forms = text if isinstance(text, (list, tuple)) else [text]
    return [str(form or "") for form in forms]


def _unknown_placeholders(message: Message) -> list[str]:
    """Return values that a translation names and its English text does not: it could not be filled in."""
    known, used = (
        {name for text in _as_list(texts) for name in _PLACEHOLDER.findall(text.replace("%%", ""))}
        for texts in (message.id, message.string)
    )
    return sorted(used - known)
