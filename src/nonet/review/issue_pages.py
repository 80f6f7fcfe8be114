"""The page and the JSON of doubtful labels: one cell at a time, worst first, decided by one key each."""

from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from nonet.cells import GRANULOPOIESIS, LYMPHOPOIESIS, MONOCYTOPOIESIS, UNSETTLED
from nonet.errors import DataError
from nonet.review.access import Reader, Reviewer
from nonet.review.answers import CHANGES
from nonet.review.bodies import LARGEST, JsonBody, Version
from nonet.review.label_decisions import LabelDecision, StaleDecisionError
from nonet.review.label_issues import Filter, Issue, IssueList, IssueQueue, NoIssuesError, NoPictureError, State
from nonet.review.pictures import as_answer, enlarged, thumbnail
from nonet.review.records import translatable
from nonet.review.site import Site

_MOST = 500  # issues in one answer
_Text = Annotated[str, Query(max_length=1000)]
LINEAGES = {
    UNSETTLED: translatable("blasts"),
    GRANULOPOIESIS: translatable("granulopoiesis"),
    MONOCYTOPOIESIS: translatable("monocytopoiesis"),
    LYMPHOPOIESIS: translatable("lymphopoiesis"),
}


_NO_IMAGES = translatable("The images cannot be shown: {problem}")
_UNKNOWN = translatable("Rows of issues.csv that name an image or a class which this run does not have: {num}.")
_NOT_UNDERSTOOD = translatable(
    "issues.csv has decisions that cannot be used (keep, drop, or relabel with a label), in line {lines}."
)
_EDITED = translatable("decisions.csv was edited. The edited file was kept as {files}; this page does not read it.")


class NewDecision(JsonBody):
    """What a reviewer decides on a doubtful label."""

    decision: Literal["keep", "relabel", "unsure", "drop"]
    label: Annotated[str, Field(max_length=200)] = ""
    """The new class of "relabel"."""
    note: Annotated[str, Field(max_length=2000)] = ""
    version: Version
    """Of the image, as the reviewer saw it."""


class Neighbour(BaseModel):
    """A held-out cell that looks like the doubtful one."""

    image_id: str
    picture: str
    """Address of its picture."""


class DoubtfulLabel(BaseModel):
    """An issue and how it stands."""

    rank: int
    image_id: str
    source: str
    patient: str
    given: str
    suggested: str
    given_confidence: float | None
    suggested_confidence: float | None
    picture: str
    given_neighbours: list[Neighbour]
    suggested_neighbours: list[Neighbour]
    decision: str
    """keep, relabel, unsure or drop; "" where no decision stands."""
    label: str
    note: str
    who: str
    at: str
    version: int


class DoubtfulLabels(BaseModel):
    """Some of the issues, worst first."""

    issues: list[DoubtfulLabel]
    num: int
    """How many there are by pair, lineage, patient and source, whatever `state` is."""
    num_left: int
    """How many of these have no decision."""


class Decided(BaseModel):
    """The issue that was decided or undone, as it stands now; null where nothing is left to undo."""

    issue: DoubtfulLabel | None
    image_id: str | None
    """Also of an image that is no longer an issue."""


class StaleDecision(Decided):
    """Why a decision was refused, with the issue as it stands."""

    detail: str


_CHANGES = CHANGES | {409: {"model": StaleDecision, "description": "Somebody else has decided it in the meantime."}}


def _filter(
    pair: _Text = "", lineage: _Text = "", patient: _Text = "", source: _Text = "", state: State = "open"
) -> Filter:
    return Filter(pair, lineage, patient, source, state)


_Filter = Annotated[Filter, Depends(_filter)]


def add_issues(app: FastAPI, site: Site) -> None:
    """Add the doubtful labels of the run to an application.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    queue = IssueQueue(site.run, site.classes)
    _add_page(app, site, queue)
    _add_pictures(app, queue)
    _add_json(app, site, queue)


def _add_page(app: FastAPI, site: Site, queue: IssueQueue) -> None:
    @app.get("/issues", response_class=HTMLResponse, include_in_schema=False)
    def show_issues(request: Request, user: Reader, chosen: _Filter) -> HTMLResponse:
        values: dict[str, Any] = {
            "chosen": chosen,
            "run": site.without_paths(str(site.run)),
            "may_decide": user.may("reviewer"),
        }
        try:
            found = queue.load()
        except NoIssuesError:
            return site.page(request, "issues.html.j2", found=None, **values)
        queue.decisions.write()  # again, where a program was killed before it could
        language = site.languages.choose(request)
        translate = language.translations.gettext
        classes = [label for label in site.labels(language, user) if label["code"] in queue.classes]
        lineages = {key: translate(words) for key, words in LINEAGES.items()}
        values |= {
            "classes": classes,
            "lineage_names": lineages,
        }
        notes = [site.without_paths(note) for note in _notes(queue, found, translate)]
        return site.page(request, "issues.html.j2", found=found, notes=notes, **values)


def _notes(queue: IssueQueue, found: IssueList, translate: Callable[[str], str]) -> list[str]:
    """Return what is odd about the files, in sentences."""
    notes = []
    if problem := queue.images(again=True).problem:
        notes.append(translate(_NO_IMAGES).format(problem=problem))
    if found.num_unknown:
        notes.append(translate(_UNKNOWN).format(num=found.num_unknown))
    if lines := found.lines_not_understood:
        shown = ", ".join(map(str, lines[:5])) + (" …" if len(lines) > 5 else "")
        notes.append(translate(_NOT_UNDERSTOOD).format(lines=shown))
    if edited := queue.decisions.edited_copies():
        notes.append(translate(_EDITED).format(files=", ".join(edited)))
    return notes


def _add_pictures(app: FastAPI, queue: IssueQueue) -> None:
    @app.get("/issues/{size}/{image_id:path}", include_in_schema=False)
    def show_picture(size: Literal["small", "large"], image_id: str, user: Reader) -> Response:
        path, sha256 = queue.picture(image_id)
        try:
            data = thumbnail(path, sha256) if size == "small" else enlarged(path, sha256)
        except DataError as error:  # its words name a path of this machine
            raise NoPictureError from error
        return as_answer(data, "image/jpeg")


_CSV = {"description": "The file.", "content": {"text/csv": {"schema": {"type": "string"}}}}


def _add_json(app: FastAPI, site: Site, queue: IssueQueue) -> None:
    def decided(stands: LabelDecision) -> Decided:
        issue = queue.load().issues.get(stands.image_id)
        known = None if issue is None else _as_json(issue, stands, queue.images().sha256)
        return Decided(issue=known, image_id=stands.image_id)

    @app.get("/api/issues")
    def list_issues(
        user: Reader,
        chosen: _Filter,
        after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MOST)] = 100,
    ) -> DoubtfulLabels:
        """List doubtful labels of a greater rank than `after`, worst first."""
        sums = queue.images().sha256
        rows, num, num_left = queue.select(chosen, after=after, limit=limit)
        return DoubtfulLabels(issues=[_as_json(*row, sums) for row in rows], num=num, num_left=num_left)

    @app.get("/api/issues/decisions.csv", response_class=Response, responses={200: _CSV})
    def get_decisions(user: Reader) -> Response:
        """Return all decisions that stand, as `nonet data build --decisions` takes them."""
        headers = {"Content-Disposition": 'attachment; filename="decisions.csv"'}
        return Response(queue.decisions.as_csv(), media_type="text/csv; charset=utf-8", headers=headers)

    @app.post("/api/issues/undo", responses=_CHANGES)
    def undo(user: Reviewer) -> Decided:
        """Undo the reviewer's last decision that stands; 409 if somebody else has decided the image since."""
        stands = queue.decisions.undo(who=user.name)
        return decided(stands) if stands else Decided(issue=None, image_id=None)

    @app.post("/api/issues/{image_id:path}/decision", responses=_CHANGES)
    def decide(image_id: str, body: NewDecision, user: Reviewer) -> Decided:
        """Decide on an image; 409, with the issue as it stands, if somebody else has decided it in the meantime."""
        issue = queue.issue(image_id)
        if (body.decision == "relabel") != bool(body.label) or (body.label and body.label not in queue.classes):
            raise DataError('"relabel" needs a class of the run as its label, and other decisions take none.')
        stands = queue.decisions.decide(
            image_id,
            body.decision,
            body.label,
            who=user.name,
            given=issue.given,
            version=body.version,
            sha256=queue.images().sha256.get(image_id, ""),
            note=body.note.strip(),
        )
        return decided(stands)

    @app.exception_handler(StaleDecisionError)
    def stale(request: Request, error: StaleDecisionError) -> Response:
        words = site.translate(request, error.words).format(**error.values)
        return JSONResponse({"detail": words} | decided(error.stands).model_dump(), status_code=409)


def _as_json(issue: Issue, stands: LabelDecision, sha256: dict[str, str]) -> DoubtfulLabel:
    def address(size: str, image_id: str) -> str:
        return f"/issues/{size}/{quote(image_id, safe='')}?v={sha256.get(image_id, '')[:16]}"

    def near(neighbours: tuple[str, ...]) -> list[Neighbour]:
        return [Neighbour(image_id=one, picture=address("small", one)) for one in neighbours]

    return DoubtfulLabel(
        rank=issue.rank,
        image_id=issue.image_id,
        source=issue.source,
        patient=issue.patient,
        given=issue.given,
        suggested=issue.suggested,
        given_confidence=issue.given_confidence,
        suggested_confidence=issue.suggested_confidence,
        picture=address("large", issue.image_id),
        given_neighbours=near(issue.given_neighbours),
        suggested_neighbours=near(issue.suggested_neighbours),
        decision=stands.decision,
        label=stands.label,
        note=stands.note,
        who=stands.who,
        at=stands.at,
        version=stands.version,
    )
