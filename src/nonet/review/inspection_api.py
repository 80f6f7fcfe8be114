"""What the panel of a cell shows of the networks."""

from typing import Annotated

from fastapi import FastAPI, Path, Response
from pydantic import BaseModel

from nonet.review.access import Reader
from nonet.review.answers import describe
from nonet.review.bodies import Number
from nonet.review.pictures import as_answer, thumbnail
from nonet.review.records import Cell, NotFoundError
from nonet.review.site import Site


class VoteAnswer(BaseModel):
    """What a network calls a cell."""

    network: str
    label: str
    proba: float


class NearestAnswer(BaseModel):
    """A labelled cell that looks like this one."""

    label: str
    similarity: float
    """Cosine of the angle between their features."""


class InspectionAnswer(BaseModel):
    """A cell as the networks see it."""

    votes: list[VoteAnswer]
    heat_of: str
    """The class for which the heat map shows where the networks looked: the most probable one."""
    nearest: list[NearestAnswer]
    """The most similar first."""


def add_inspection(app: FastAPI, site: Site) -> None:
    """Add what a panel shows of the networks to an application.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    inspections = site.inspections

    def readable(cell_id: int) -> Cell:
        cell = site.store.cell(cell_id)
        if cell.facts.get("best") not in site.classes:
            raise NotFoundError
        return cell

    @app.get("/api/cells/{cell_id}/inspection", responses=describe(429))
    def inspect(cell_id: Number, user: Reader) -> InspectionAnswer:
        """Return what each network calls a cell, and the labelled cells most like it; 503 while networks are loaded."""
        cell = readable(cell_id)
        return InspectionAnswer(
            votes=[VoteAnswer(**vote._asdict()) for vote in inspections.votes(cell)],
            heat_of=str(cell.facts["best"]),
            nearest=[NearestAnswer(label=one.label, similarity=one.similarity) for one in inspections.nearest(cell)],
        )

    @app.get("/cells/{cell_id}/heat", include_in_schema=False)
    def show_heat(cell_id: Number, user: Reader) -> Response:
        return as_answer(inspections.heat(readable(cell_id)), "image/png")

    @app.get("/cells/{cell_id}/nearest/{place}", include_in_schema=False)
    def show_nearest(cell_id: Number, place: Annotated[int, Path(ge=0, le=9)], user: Reader) -> Response:
        return as_answer(thumbnail(*inspections.picture_of(readable(cell_id), place)), "image/jpeg")
