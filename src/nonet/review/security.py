"""Who may call the page: names of the host, origin of changes, and what a browser may load.

Bound to loopback there is no login; every other program on the machine, and every web page open in a browser on it, can
reach the port. So the name of the host is checked (DNS rebinding), changes must come from the page itself (cross-site
requests carry no such header), and nothing is loaded from elsewhere.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

#: Requests that change something carry it; a form or script of another site cannot send it without permission.
HEADER = "x-nonet"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_MAX_BODY_BYTES = 2_000_000
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


def add_security(app: FastAPI, *, hosts: set[str], name: str) -> None:
    """Check every request, and add headers to every response.

    Parameters
    ----------
    app : FastAPI
    hosts : set of str
        Names under which the page may be called, without port.
    name : str
        Of the reviewer.
    """
    app.state.reviewer = name

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        problem = _problem(request, hosts)
        response = problem or await call_next(request)
        for header, value in _HEADERS.items():
            response.headers.setdefault(header, value)
        if not request.url.path.startswith(("/static/", "/cells/")):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def reviewer(request: Request) -> str:
    """Return the name of the person who calls."""
    return request.app.state.reviewer


def _problem(request: Request, hosts: set[str]) -> Response | None:
    if _host(request.headers.get("host", "")) not in hosts:
        return _refusal(421, "This page is not served under this name.")
    if request.method in _SAFE:
        return None
    origin = request.headers.get("origin")
    if origin is not None and _host(urlsplit(origin).netloc) not in hosts:
        return _refusal(403, "Changes must come from the page itself.")
    if request.headers.get(HEADER) is None:
        return _refusal(403, f"Requests that change something need the header {HEADER}.")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
        return _refusal(413, "The request is too large.")
    return None


def _refusal(status: int, words: str) -> JSONResponse:
    return JSONResponse({"detail": words}, status_code=status)


def _host(value: str) -> str:
    """Return the name in "name:port", lower case; "[::1]:8000" is "::1"."""
    try:
        return (urlsplit(f"//{value}").hostname or "").lower()
    except ValueError:
        return ""
