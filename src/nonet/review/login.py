"""Logging in and out: the page, and the JSON that its script calls."""

import math
from typing import Annotated
from urllib.parse import urlsplit

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field

from nonet.review.access import Reader, get_user
from nonet.review.accounts import LONGEST_S, Accounts
from nonet.review.bodies import JsonBody
from nonet.review.limits import LoginLimit
from nonet.review.names import name_key
from nonet.review.records import translatable
from nonet.review.site import Site

#: Argon2 takes 64 MiB for each.
_AT_ONCE = 2
_WRONG = translatable("Name or password is wrong.")
_TOO_MANY = translatable("Too many failed logins. Try again in {minutes} minutes.")


class Credentials(JsonBody):
    """A name and its password."""

    name: Annotated[str, Field(max_length=200)]
    password: Annotated[str, Field(max_length=1000)]


def add_login(app: FastAPI, site: Site) -> None:
    """Add login and logout to an application, if the run has users.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    accounts, limit = site.accounts, LoginLimit()
    if accounts is None:
        return
    places = anyio.CapacityLimiter(_AT_ONCE)

    @app.get("/login", include_in_schema=False)
    def show_login(request: Request, next: str = "/") -> Response:
        place = local_path(next)
        if get_user(request) is not None:
            return RedirectResponse(place, 303)
        return site.page(request, "login.html.j2", next=place)

    @app.post("/api/login", status_code=204)
    async def log_in(request: Request, body: Credentials) -> Response:
        """Log in: the answer sets a cookie; 401 if name or password is wrong, 429 after too many failures."""
        name, address = name_key(body.name), request.client.host if request.client else ""
        wait_s = limit.begin(name, address)
        if wait_s:
            words = site.translate(request, _TOO_MANY).format(minutes=math.ceil(wait_s / 60))
            return JSONResponse({"detail": words}, 429, {"Retry-After": str(wait_s)})
        # In threads of its own: those who wait for their turn keep no others from the page.
        cookie = await anyio.to_thread.run_sync(accounts.log_in, body.name, body.password, limiter=places)
        if cookie is None:
            return JSONResponse({"detail": site.translate(request, _WRONG)}, 401, {"WWW-Authenticate": "Bearer"})
        limit.succeeded(name, address)
        before = read_cookie(request, accounts)
        if before:
            await run_in_threadpool(accounts.log_out, before)
        response = Response(status_code=204)
        response.set_cookie(
            cookie_name(accounts),
            cookie,
            max_age=LONGEST_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @app.post("/api/logout", status_code=204)
    def log_out(request: Request, user: Reader) -> Response:
        """End the session; pictures that the browser keeps are removed."""
        accounts.log_out(read_cookie(request, accounts))
        response = Response(status_code=204, headers={"Clear-Site-Data": '"cache"'})
        response.delete_cookie(cookie_name(accounts), httponly=True, samesite="strict")
        return response


def cookie_name(accounts: Accounts) -> str:
    """Return the name of the session's cookie; browsers share cookies among ports, so each run has its own."""
    return f"nonet_session_{accounts.id}"


def read_cookie(request: Request, accounts: Accounts) -> str:
    """Return what the request has as its session; "" if nothing."""
    return request.cookies.get(cookie_name(accounts), "")


def local_path(address: str) -> str:
    """Return an address if it is a path of this site, to go to after logging in; otherwise "/"."""
    if not address.startswith("/") or address.startswith("//") or "\\" in address or not address.isprintable():
        return "/"
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc or parts.path == "/login" else address
