"""Who may use a run's page: the public functions behind "nonet users"."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import Run
from nonet.errors import StorageError
from nonet.review.packages import needing_packages

if TYPE_CHECKING:
    import pandas as pd

    from nonet.review.accounts import Accounts


def add_user(run: str | Path | Run, name: str, *, password: str, role: str = "reviewer") -> None:
    """Add a user to a run's page. From then on, everybody who opens it logs in.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    name : str
        Under which decisions are stored, such as "A. Lee". Capitals do not matter when logging in.
    password : str
        At least 12 characters. Only its Argon2 hash is stored.
    role : {"reader", "reviewer", "admin"}
        A reader looks; a reviewer also decides, signs and uploads; an admin also sees every file name and upload.

    Raises
    ------
    DataError
        If the name is taken or not allowed, the password is too short or too long, or the role does not exist.
    """
    with _accounts(run) as accounts:
        accounts.add(name, password, role)


def list_users(run: str | Path | Run) -> "pd.DataFrame":
    """List the users of a run's page.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.

    Returns
    -------
    DataFrame
        Columns name, role, since, and tokens: the label of each API token and the day it expires.
    """
    import pandas as pd

    return pd.DataFrame(user_rows(run), columns=["name", "role", "since", "tokens"])


def user_rows(run: str | Path | Run) -> list[dict[str, str]]:
    """Return the rows of `list_users`, without pandas."""
    if not Run(run).users.exists():
        return []
    with _accounts(run) as accounts:
        users = accounts.users()
    return [
        {
            "name": user.name,
            "role": user.role,
            "since": _day(user.created_at),
            "tokens": ", ".join(f"{label} (until {_day(at)})" for label, at in user.tokens.items()),
        }
        for user in users
    ]


def remove_user(run: str | Path | Run, name: str) -> None:
    """Remove a user from a run's page, who is logged out at once. Decisions and signatures stay.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    name : str
        The name of the user.

    Raises
    ------
    DataError
        If the user does not exist, or is the last admin of several users.
    """
    with _accounts(run) as accounts:
        accounts.remove(name)


def set_password(run: str | Path | Run, name: str, *, password: str) -> None:
    """Change a user's password, and end the user's logins. API tokens stay.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    name : str
        The name of the user.
    password : str
        At least 12 characters.

    Raises
    ------
    DataError
        If the user does not exist, or the password is too short or too long, or is the name.
    """
    with _accounts(run) as accounts:
        accounts.set_password(name, password)


def set_role(run: str | Path | Run, name: str, role: str) -> None:
    """Change a user's role, and end the user's logins.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    name : str
        The name of the user.
    role : {"reader", "reviewer", "admin"}
        The role from now on.

    Raises
    ------
    DataError
        If the user does not exist, or is the last admin of several users.
    """
    with _accounts(run) as accounts:
        accounts.set_role(name, role)


def make_token(run: str | Path | Run, name: str, label: str, *, days: int = 90) -> str:
    """Make an API token, with which a program acts as a user: "Authorization: Bearer TOKEN".

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    name : str
        The name of the user.
    label : str
        What the token is for, to recognise it in the list.
    days : int
        How long it is valid.

    Returns
    -------
    str
        The token. It cannot be shown again: only its SHA-256 is stored.

    Raises
    ------
    DataError
        If the user does not exist, or has a token of this label already.
    """
    with _accounts(run) as accounts:
        return accounts.add_token(name, label, days=days)


def revoke_token(run: str | Path | Run, name: str, label: str | None = None) -> None:
    """Revoke an API token of a user.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    name : str
        The name of the user.
    label : str, optional
        Of the token. Default: all tokens of the user, and the user's logins.

    Raises
    ------
    DataError
        If the user or the token does not exist.
    """
    with _accounts(run) as accounts:
        accounts.revoke(name, label)


@contextmanager
def _accounts(run: str | Path | Run) -> "Iterator[Accounts]":
    run = Run(run)
    run.require()
    with needing_packages():
        from nonet.review.accounts import Accounts
    try:
        yield Accounts(run.users)
    except sqlite3.Error as error:
        raise StorageError(
            f"{run.users} cannot be written: {error}.", hint="Check its permissions and disk, then try again."
        ) from error


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
