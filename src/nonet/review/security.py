"""Who may call the page: names of the host, origin of changes, who is logged in, and what a browser may load.

Every program on the machine, and every web page that is open in a browser on it, can reach the port. So the name of
the host is checked (DNS rebinding), changes must come from the page itself (cross-site requests carry no header of
ours, and another origin), and nothing is loaded from elsewhere. Where people log in, that header must name the session
as well, and everything but the login is closed to those who have none.
"""

import hmac
import ipaddress
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse

from nonet.review.login import read_cookie
from nonet.review.records import NOT_SAVED, translatable
from nonet.review.roles import User
from nonet.review.site import Site
from nonet.review.upload_files import MAX_FILE_BYTES, MAX_ZIP_BYTES

logger = logging.getLogger("nonet")

#: Requests that change something carry it; a form or script of another site cannot send it without permission.
HEADER = "x-nonet"
#: Decisions on some 50,000 cells at once.
MAX_BODY_BYTES = 1_000_000
#: What those who are not logged in can open, besides /static.
OPEN = frozenset({"/login", "/api/login", "/texts.js", "/labels.css", "/language", "/healthz", "/readyz"})
#: What programs ask all the time.
_PROBES = {"/healthz", "/readyz", "/metrics"}
_SAFE = {"GET", "HEAD", "OPTIONS"}
_LOG_IN = translatable("You are not logged in, or your login has ended. Log in, then try again.")
_OTHER_LOGIN = translatable("Somebody else has logged in since this page was opened. Reload it, then try again.")
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


@dataclass(frozen=True)
class _Caller:
    """Who sent a request.

    Attributes
    ----------
    user : User or None
        None for somebody who is not logged in.
    token : str
        What changes must carry; "" without a session.
    is_program : bool
        Whether it has an API token, which no browser sends of its own accord.
    """

    user: User | None
    token: str = ""
    is_program: bool = False


def add_security(app: FastAPI, site: Site) -> None:
    """Check every request, and add headers to every response.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path not in _PROBES:
            site.predictor.note_request()
        response = await _check(request, site) or await call_next(request)
        for header, value in _HEADERS.items():
            response.headers.setdefault(header, value)
        # Scripts and styles are kept, and asked for anew each time; anything about cells is not kept.
        kept = "no-cache" if request.url.path.startswith("/static/") else "no-store"
        response.headers.setdefault("Cache-Control", kept)
        return response


async def _check(request: Request, site: Site) -> Response | None:
    """Return the answer to a request that is refused; None for one that is let through, by whom is noted."""
    if not _is_own_name(request, site.hosts):
        return _answer(421, "This page is not served under this name.")
    try:
        caller = _Caller(site.user) if site.accounts is None else await run_in_threadpool(_find_caller, request, site)
    except sqlite3.Error as error:
        logger.error(f"Users and sessions cannot be read: {error}.")
        return _answer(503, site.translate(request, NOT_SAVED))
    request.state.user, request.state.token = caller.user, caller.token
    is_open = request.url.path in OPEN or request.url.path.startswith("/static/")
    if request.method not in _SAFE:
        return _refuse_change(request, site, caller, is_open=is_open)
    return None if is_open or caller.user is not None else _ask_to_log_in(request, site)


def _find_caller(request: Request, site: Site) -> _Caller:
    accounts = site.accounts
    assert accounts is not None
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        user = accounts.of_token(token.strip())
        return _Caller(user, is_program=user is not None)
    cookie = "" if request.url.path.startswith("/static/") else read_cookie(request, accounts)
    session = accounts.session(cookie) if cookie else None
    return _Caller(None) if session is None else _Caller(session.user, session.token)


def _ask_to_log_in(request: Request, site: Site) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        query = f"?{request.url.query}" if request.url.query else ""
        place = quote(request.url.path + query, safe="")
        return RedirectResponse("/login" if place == "%2F" else f"/login?next={place}", 303)
    return _answer(401, site.translate(request, _LOG_IN), {"WWW-Authenticate": "Bearer"})


def _refuse_change(request: Request, site: Site, caller: _Caller, *, is_open: bool) -> Response | None:
    """Return the answer to a change that is refused; None for one that is let through."""
    if not caller.is_program:
        origin, given = request.headers.get("origin"), request.headers.get(HEADER)
        own = f"{request.url.scheme}://{request.headers.get('host', '')}"
        if origin is not None and origin.lower() != own.lower():
            return _answer(403, "Changes must come from the page itself.")
        if given is None:
            return _answer(403, f"Requests that change something need the header {HEADER}.")
        if not is_open and caller.user is None:
            return _ask_to_log_in(request, site)
        if not is_open and caller.token and not hmac.compare_digest(given.encode(), caller.token.encode()):
            return _answer(403, site.translate(request, _OTHER_LOGIN))
    if "transfer-encoding" in request.headers:  # whatever length is given beside it, more may follow
        return _answer(411, "The length of the request is missing.")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > _max_bytes(request.url.path):
        return _answer(413, "The request is too large.")
    return None


def _max_bytes(path: str) -> int:
    """Return how long the body of a request may be."""
    if path == "/api/predict":
        return MAX_FILE_BYTES
    return MAX_ZIP_BYTES if re.fullmatch(r"/api/uploads/\w+/files", path) else MAX_BODY_BYTES


def _answer(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": words}, status_code=status, headers=headers)


def _is_own_name(request: Request, hosts: set[str]) -> bool:
    """Whether a request names this host: by a name that is known, or by the very address that it came to."""
    name = _name(request.headers.get("host", ""))
    return name in hosts or (name != "" and name == _plain_address((request.scope.get("server") or ("",))[0]))


def _plain_address(address: str) -> str:
    """Return an IP address as a URL has it; "" for anything else. No name leads to it, so it cannot be rebound."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(known, "ipv4_mapped", None) or known)


def _name(host: str) -> str:
    """Return the name in "name:port", lower case; "[::1]:8000" is "::1"."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
