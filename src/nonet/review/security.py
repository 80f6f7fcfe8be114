"""Who may call the page: names of the host, origin of changes, and what a browser may load.

Bound to loopback there is no login; every program on the machine, and every web page that is open in a browser on it,
can reach the port. So the name of the host is checked (DNS rebinding), changes must come from the page itself
(cross-site requests carry no header of ours, and another origin), and nothing is loaded from elsewhere.
"""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from nonet.review.site import Site
from nonet.review.upload_files import MAX_FILE_BYTES, MAX_ZIP_BYTES

#: Requests that change something carry it; a form or script of another site cannot send it without permission.
HEADER = "x-nonet"
#: Decisions on some 50,000 cells at once.
MAX_BODY_BYTES = 1_000_000
_SAFE = {"GET", "HEAD", "OPTIONS"}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_security(app: FastAPI, site: Site) -> None:
    """Check every request, and add headers to every response.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.user = site.user
        response = _refusal(request, site.hosts) or await call_next(request)
        for header, value in _HEADERS.items():
            response.headers.setdefault(header, value)
        # Scripts and styles are kept, and asked for anew each time; anything about cells is not kept.
        kept = "no-cache" if request.url.path.startswith("/static/") else "no-store"
        response.headers.setdefault("Cache-Control", kept)
        return response


def _refusal(request: Request, hosts: set[str]) -> Response | None:
    """Return the answer to a request that is refused; None for one that is let through."""
    host = request.headers.get("host", "")
    if _name(host) not in hosts:
        return _answer(421, "This page is not served under this name.")
    if request.method in _SAFE:
        return None
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() != f"{request.url.scheme}://{host}".lower():
        return _answer(403, "Changes must come from the page itself.")
    if request.headers.get(HEADER) is None:
        return _answer(403, f"Requests that change something need the header {HEADER}.")
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" in request.headers:
        return _answer(411, "The length of the request is missing.")
    length = length or "0"
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > _max_bytes(request.url.path):
        return _answer(413, "The request is too large.")
    return None


def _max_bytes(path: str) -> int:
    """Return how long the body of a request may be."""
    if path == "/api/predict":
        return MAX_FILE_BYTES
    return MAX_ZIP_BYTES if re.fullmatch(r"/api/uploads/\w+/files", path) else MAX_BODY_BYTES


def _answer(status: int, words: str) -> JSONResponse:
    return JSONResponse({"detail": words}, status_code=status)


def _name(host: str) -> str:
    """Return the name in "name:port", lower case; "[::1]:8000" is "::1"."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
