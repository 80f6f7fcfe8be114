"""Who is asking, and what that person may do.

`security` finds out who is asking, once for each request; a route says what it takes by the type of its argument:
`Reader`, `Reviewer` or `Admin`.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from nonet.review.roles import Role, User


def get_user(request: Request) -> User | None:
    """Return who is asking, as `security` found out; None for somebody who is not logged in."""
    return request.state.user


def _require(role: Role) -> Callable[[Request], User]:
    def check(request: Request) -> User:
        user = get_user(request)
        if user is None:
            raise HTTPException(401, "This needs a login.", {"WWW-Authenticate": "Bearer"})
        if not user.may(role):
            raise HTTPException(403, f"This needs the role {role}; {user.name} has the role {user.role}.")
        return user

    return check


Reader = Annotated[User, Depends(_require("reader"))]
Reviewer = Annotated[User, Depends(_require("reviewer"))]
Admin = Annotated[User, Depends(_require("admin"))]
