"""What every part of the page shares: the run, the reviews, the classes, and the templates in each language."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from markupsafe import escape

from nonet.artifacts.run import Run
from nonet.cells import class_colour, class_name
from nonet.differential.groups import NOT_COUNTED
from nonet.differential.shares import RESEARCH_USE
from nonet.page.html import html_environment
from nonet.review.access import get_user
from nonet.review.accounts import Accounts
from nonet.review.inspections import Inspections
from nonet.review.languages import Language, Languages
from nonet.review.predictor import Predictor
from nonet.review.preferences import Letters
from nonet.review.records import translatable
from nonet.review.roles import User
from nonet.review.store import Store
from nonet.review.upload_prediction import UploadPrediction
from nonet.review.uploads import Uploads
from nonet.workers import num_processors

_PATH = re.compile(r"(?<![\w./:])/(?:[^\s/]+/)*([^\s/]+)")
_CELL = translatable("cell {num}")
HERE = Path(__file__).parent


@dataclass
class Site:
    """The page of a run.

    Attributes
    ----------
    run : Run
    store : Store
        Its reviews.
    user : User or None
        Who everybody is where nobody logs in.
    title : str
        Of the pages: the name of the run.
    hosts : set of str
        Names under which it may be called, without port.
    languages : Languages
    accounts : Accounts, optional
        Who may log in; None where nobody does.
    show_file_names : bool
        Whether, with a login, everybody sees the names of image files.
    accelerator : str
        What to predict on, as for `nonet.load`.
    predictor : Predictor
        Its networks, which `start` loads.
    inspections : Inspections
        What these say of single cells.
    decoding : CapacityLimiter
        Limits how many images are decoded at once: each may need much memory.
    uploads, upload_prediction : Uploads, UploadPrediction
        Images that people uploaded, and what makes them cases.
    """

    run: Run
    store: Store
    user: User | None
    title: str
    hosts: set[str] = field(default_factory=lambda: {"127.0.0.1", "localhost", "::1"})
    languages: Languages = field(default_factory=Languages)
    accounts: Accounts | None = None
    show_file_names: bool = False
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        self.predictor = Predictor(self.run, accelerator=self.accelerator)
        self.inspections = Inspections(self.run, self.predictor)
        self.decoding = CapacityLimiter(num_processors())
        self.uploads = Uploads(self.run.uploads, self.store)
        self.upload_prediction = UploadPrediction(self.uploads, self.predictor, self.store, self.run)
        self.classes = self.store.classes()
        self.letters = Letters(self.store, self.classes)
        self._environments = {code: _environment(one) for code, one in self.languages.by_code.items()}

    def start(self) -> None:
        """Load the networks, and continue with uploads, in the background; returns at once."""
        self.predictor.start()
        self.upload_prediction.start()

    def stop(self) -> None:
        """End what runs in the background; uploads that are being predicted continue at the next start."""
        self.predictor.stop()
        self.upload_prediction.stop()

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page in the language of a request.

        Parameters
        ----------
        request : Request
        template : str
            File of `templates`.
        status : int
        **values
            For the template.

        Returns
        -------
        HTMLResponse
        """
        language = self.languages.choose(request)
        user = get_user(request)
        labels = self.labels(language, user)
        shared = {
            "title": self.title,
            "user": user,
            "token": request.state.token,
            "has_login": self.accounts is not None,
            "research_use": RESEARCH_USE,
            "path": request.url.path,
            "has_issues": self.run.issues.is_file(),
            "language": language,
            "languages": self.languages.by_code.values(),
            "labels": labels,
            "label_numbers": {label["code"]: place for place, label in enumerate(labels)},
        }
        text = self._environments[language.code].get_template(template).render(shared | values)
        return HTMLResponse(text, status_code=status)

    def shows_all_names(self, user: User | None) -> bool:
        """Return whether a person sees every file name; names of files may name patients."""
        return self.accounts is None or self.show_file_names or (user is not None and user.may("admin"))

    def without_paths(self, text: str) -> str:
        """Return a message of the library as those who log in may read it: with names instead of whole paths."""
        if self.accounts is None:
            return text
        for folder in (self.run.folder.resolve(), self.run.folder):
            text = text.replace(str(folder), self.title)
        return _PATH.sub(r"\1", text)

    def image_names(self, request: Request, case_id: int) -> Callable[[int, str], str]:
        """Return a function of a cell's position and its file's name, that returns the name for who is asking.

        Whoever added the case sees its file names; others see "cell 12".
        """
        user = get_user(request)
        if self.shows_all_names(user) or (user is not None and user.name == self.store.case(case_id).added_by):
            return lambda position, image: image
        words = self.translate(request, _CELL)
        return lambda position, image: words.format(num=position + 1)

    def translate(self, request: Request, words: str) -> str:
        """Return words in the language of a request."""
        return self.languages.choose(request).translations.gettext(words)

    def labels(self, language: Language, user: User | None) -> list[dict[str, str]]:
        """Return code, name, letter and colour of each label, in the order in which they are offered to a person."""
        translate = language.translations.gettext
        letters = self.letters.default if user is None else self.letters.of(user.name)
        return [
            {
                "code": label,
                "name": translate(NOT_COUNTED.get(label) or class_name(label)),
                "letter": letter,
                "colour": class_colour(label),
            }
            for label, letter in letters.items()
        ]


def _environment(language: Language) -> Environment:
    made = html_environment(HERE / "templates")
    made.add_extension("jinja2.ext.i18n")
    words = language.translations  # of a translator: text, in which "<" and "&" are nothing but letters
    made.install_gettext_callables(  # type: ignore[attr-defined]
        lambda one: escape(words.gettext(one)),
        lambda one, many, num: escape(words.ngettext(one, many, num)),
        newstyle=True,
    )
    return made
