"""The JSON of single predictions, and whether the networks can predict at all."""

import asyncio
import math

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request

import nonet
from nonet.artifacts.predictions_csv import PREFIX
from nonet.data.names import SET_SEPARATOR
from nonet.differential.shares import RESEARCH_USE
from nonet.review.access import Reader
from nonet.review.answers import PredictionAnswer, describe
from nonet.review.bodies import FILE_BODY, read_body
from nonet.review.predictor import BusyError, Predictor
from nonet.review.site import Site
from nonet.review.upload_files import MAX_FILE_BYTES, MAX_PIXELS

_NUMBERS = ("confidence", "agreement", "spread", "ood_percentile")


def add_predict(app: FastAPI, site: Site) -> None:
    """Add the JSON of single predictions to an application.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    predictor = site.predictor

    @app.get("/readyz", responses=describe(503))
    def readyz() -> dict[str, str]:
        """Say that the networks can predict; 503 with the reason while they cannot."""
        if predictor.problem is not None:
            raise HTTPException(503, site.without_paths(predictor.problem))
        return {"status": "ready"}

    @app.post("/api/predict", responses=describe(408, 411, 413, 429), openapi_extra=FILE_BODY)
    async def predict_image(request: Request, user: Reader) -> PredictionAnswer:
        """Predict one image, which is not kept. The body is the file: JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000, AVIF.

        Images that arrive together are predicted together. If too many wait, the answer is 429 with Retry-After.
        """
        try:
            with predictor.place():
                data = await read_body(request, MAX_FILE_BYTES)
                prepared = await to_thread.run_sync(
                    lambda: predictor.prepare(data, max_pixels=MAX_PIXELS), limiter=site.decoding
                )
                row = await asyncio.wrap_future(predictor.submit(prepared))
        except BusyError as error:
            raise HTTPException(429, error.message, {"Retry-After": str(error.retry_after_s)}) from error
        return _answer(row, predictor)


def _answer(row: dict, predictor: Predictor) -> PredictionAnswer:
    proba = {code: row[PREFIX + code] for code in predictor.classes}
    is_finite = math.isfinite(sum(proba.values()))
    answer = {name: row[name] for name in ("label", "reason", "best", "note", "error")}
    answer |= {name: round(row[name], 6) if math.isfinite(row[name]) else None for name in _NUMBERS}
    answer |= {
        "set": row["set"].split(SET_SEPARATOR) if row["set"] else [],
        "proba": {code: round(share, 6) for code, share in proba.items()} if is_finite else None,
        "model": predictor.model,
        "num_members": predictor.num_members,
        "version": nonet.__version__,
        "notice": RESEARCH_USE,
    }
    return PredictionAnswer.model_validate(answer)
