"""The JSON of uploads: begin one, send its files one by one, have it predicted, follow it until it is a case."""

from typing import Annotated

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from pydantic import Field

from nonet.artifacts.predictions_csv import CHUNK_SIZE
from nonet.review.access import Reviewer
from nonet.review.answers import CHANGES, ReceivedAnswer, RefusedFile, UploadAnswer, describe
from nonet.review.bodies import FILE_BODY, JsonBody, write_body
from nonet.review.site import Site
from nonet.review.upload_files import MAX_ZIP_BYTES
from nonet.review.upload_folder import Upload

_MAX_LISTED_UPLOADS = 100
UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class NewUpload(JsonBody):
    """The case that the files of an upload will be."""

    case: Annotated[str, Field(min_length=1, max_length=1000)]


def add_uploads(app: FastAPI, site: Site) -> None:
    """Add the JSON of uploads to an application.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    _add_files(app, site)
    uploads = site.uploads

    def require_predictor() -> None:
        if site.predictor.has_failed:
            raise HTTPException(503, site.without_paths(site.predictor.problem or ""))

    @app.get("/api/uploads")
    def list_uploads(user: Reviewer) -> list[UploadAnswer]:
        """List your own uploads, newest first."""
        own = [each for each in uploads.all() if each.owner == user.name]
        return [_answer(each, site) for each in own[:_MAX_LISTED_UPLOADS]]

    @app.post("/api/uploads", responses=CHANGES, status_code=201)
    def begin_upload(body: NewUpload, user: Reviewer) -> UploadAnswer:
        """Begin an upload; one of the same case that you began, and that still takes files, is continued."""
        require_predictor()
        return _answer(uploads.begin(body.case, user.name), site)

    @app.get("/api/uploads/{upload_id}")
    def get_upload(upload_id: UploadId, user: Reviewer) -> UploadAnswer:
        """Return an upload and how far it has come."""
        return _answer(uploads.get(upload_id, user), site)

    @app.post("/api/uploads/{upload_id}/predict", responses=CHANGES)
    def predict_upload(upload_id: UploadId, user: Reviewer) -> UploadAnswer:
        """End an upload: its images are predicted, and become a case."""
        require_predictor()
        upload = uploads.get(upload_id, user)
        if uploads.close(upload):
            site.upload_prediction.put(upload)
        return _answer(upload, site)

    @app.delete("/api/uploads/{upload_id}", status_code=204, responses=CHANGES)
    def delete_upload(upload_id: UploadId, user: Reviewer) -> Response:
        """Delete an upload that is not being predicted, and has not become a case."""
        uploads.delete(uploads.get(upload_id, user))
        return Response(status_code=204)


def _add_files(app: FastAPI, site: Site) -> None:
    uploads = site.uploads

    @app.put("/api/uploads/{upload_id}/files", responses=CHANGES | describe(408), openapi_extra=FILE_BODY)
    async def send_file(
        upload_id: UploadId,
        name: Annotated[str, Query(min_length=1, max_length=2000)],
        request: Request,
        user: Reviewer,
    ) -> ReceivedAnswer:
        """Take a file, an image or a zip archive of images; it is on the disk when this answers.

        `name` is the name of the file, with its folders if it has any. What cannot be used is listed with its reason.
        """
        upload = uploads.get(upload_id, user)
        length = int(request.headers.get("content-length", 0))
        uploads.require_space(length)
        with uploads.arriving(upload) as file:
            size = await write_body(request, file, MAX_ZIP_BYTES)
            if size != length:
                raise HTTPException(422, "The file did not arrive whole.")
            num_images, refused = await to_thread.run_sync(uploads.add, upload, name, file, limiter=site.decoding)
        return ReceivedAnswer(num_images=num_images, refused=[RefusedFile(**vars(each)) for each in refused])


def _answer(upload: Upload, site: Site) -> UploadAnswer:
    state, reason = upload.state, upload.reason
    if state == "predicting" and site.predictor.has_failed:
        state, reason = "failed", site.predictor.problem or ""
    return UploadAnswer(
        id=upload.id,
        case=upload.case,
        owner=upload.owner,
        state=state,
        created_at=upload.created_at,
        changed_at=upload.changed_at,
        num_images=len(upload.images),
        num_predicted=_num_predicted(upload),
        num_refused=upload.num_refused,
        refused=[RefusedFile(**vars(each)) for each in upload.refused],
        case_id=upload.case_id,
        reason=site.without_paths(reason),
    )


def _num_predicted(upload: Upload) -> int:
    if upload.state == "done":
        return len(upload.images)
    parts = len([*(upload.predictions / "parts").glob("[0-9]*.parquet")])
    return min(len(upload.images), parts * CHUNK_SIZE)
