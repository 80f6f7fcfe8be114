"""The users of a run's page, their sessions and API tokens: one SQLite file, which only its owner can read.

A session is a random number in a cookie. Only its SHA-256 is stored, so the file lets nobody in, and a session ends the
moment that its row is deleted: at logout, with a new password or role, and when its user is removed.
"""

import hashlib
import hmac
import os
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from nonet.artifacts.storage import writing_to
from nonet.errors import DataError, choose_from
from nonet.review.database import Database
from nonet.review.names import name_key, require_name
from nonet.review.roles import ROLES, Role, User

#: A session ends after this long without use, and this long after the login in any case.
IDLE_S = 8 * 3600
LONGEST_S = 7 * 24 * 3600
_DAY_S = 24 * 3600
_MAX_DAYS = 3650
#: The last use is stored no more often than this, as each change waits for the disk.
_REMEMBERED_S = 60
_MIN_CHARACTERS, _MAX_BYTES = 12, 1000
_TOKEN_PREFIX = "nonet_"  # so that programs that look for published secrets recognise it


@dataclass(frozen=True)
class Session:
    """A person who is logged in.

    Attributes
    ----------
    user : User
    token : str
        What requests of this session's pages carry (CSRF). It follows from the cookie, and does not give it away.
    """

    user: User
    token: str


@dataclass(frozen=True)
class Account:
    """A user as `Accounts.users` lists them.

    Attributes
    ----------
    name : str
    role : {"reader", "reviewer", "admin"}
    created_at : int
        Seconds since 1970.
    tokens : dict of str to int
        Label of each API token → when it expires, in seconds since 1970.
    """

    name: str
    role: Role
    created_at: int
    tokens: dict[str, int]


class Accounts(Database):
    """The users of a run's page.

    Parameters
    ----------
    path : Path
        The SQLite file; made if it does not exist, and readable by its owner alone.
    clock : callable
        Returns seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._hasher = PasswordHasher()
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with suppress(PermissionError):  # of a file that a group owns
                path.chmod(0o600)  # a copy that was restored may have come with other permissions
        super().__init__(path, "accounts.sql")
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('id', ?)", (secrets.token_hex(4),))
            (self.id,) = connection.execute("SELECT value FROM facts WHERE name = 'id'").fetchone()

    def users(self) -> list[Account]:
        """Return the users by name."""
        with self.connect() as connection:
            rows = connection.execute("SELECT * FROM users ORDER BY key").fetchall()
            tokens = connection.execute("SELECT * FROM tokens ORDER BY label").fetchall()
        return [
            Account(
                row["name"],
                row["role"],
                row["created_at"],
                {token["label"]: token["expires_at"] for token in tokens if token["user_id"] == row["id"]},
            )
            for row in rows
        ]

    def add(self, name: str, password: str, role: str) -> User:
        """Add a user.

        Raises
        ------
        DataError
            If the name is taken or not allowed, the password is too short or too long, or the role does not exist.
        """
        name, role = require_name(name), _require_role(role)
        hashed = self._hash(password, name)
        try:
            with self.transaction() as connection:
                connection.execute(
                    "INSERT INTO users (name, key, role, password, created_at) VALUES (?, ?, ?, ?, ?)",
                    (name, name_key(name), role, hashed, self._now()),
                )
        except sqlite3.IntegrityError as error:
            raise DataError(
                f'The user "{name}" exists already, perhaps with other capitals.',
                hint='Choose another name, or change the user: "nonet users password", "nonet users role".',
            ) from error
        return User(name, role)

    def remove(self, name: str) -> None:
        """Remove a user, with sessions and tokens; DataError for the last admin of several users."""
        with self.transaction() as connection:
            row = _find(connection, name)
            _require_other_admin(connection, row, "removed")
            connection.execute("DELETE FROM users WHERE id = ?", (row["id"],))

    def set_password(self, name: str, password: str) -> None:
        """Change a password, and end the user's sessions."""
        with self.connect() as connection:
            row = _find(connection, name)
        hashed = self._hash(password, row["name"])
        with self.transaction() as connection:
            connection.execute("UPDATE users SET password = ? WHERE id = ?", (hashed, row["id"]))
            connection.execute("DELETE FROM sessions WHERE user_id = ?", (row["id"],))

    def set_role(self, name: str, role: str) -> None:
        """Change a role, and end the user's sessions; DataError for the last admin of several users."""
        role = _require_role(role)
        with self.transaction() as connection:
            row = _find(connection, name)
            if role != "admin":
                _require_other_admin(connection, row, f"made a {role}")
            connection.execute("UPDATE users SET role = ? WHERE id = ?", (role, row["id"]))
            connection.execute("DELETE FROM sessions WHERE user_id = ?", (row["id"],))

    def log_in(self, name: str, password: str) -> str | None:
        """Return the cookie of a new session, or None if name or password is wrong.

        An unknown name takes the same time as a wrong password.
        """
        nobody = self._nobody
        with self.connect() as connection:
            row = connection.execute("SELECT * FROM users WHERE key = ?", (name_key(name),)).fetchone()
        given, hashed = _as_bytes(password), nobody if row is None else row["password"]
        try:
            self._hasher.verify(hashed, given)
        except (VerificationError, InvalidHashError):
            return None
        if row is None:
            return None
        cookie, now = secrets.token_urlsafe(32), self._now()
        renewed = self._hasher.hash(given) if self._hasher.check_needs_rehash(hashed) else hashed
        with self.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE expires_at <= ? OR used_at <= ?", (now, now - IDLE_S))
            made = connection.execute(  # none if the password was changed, or the user removed, in between
                "INSERT INTO sessions SELECT ?, id, ?, ?, ? FROM users WHERE id = ? AND password = ?",
                (_digest(cookie), now, now, now + LONGEST_S, row["id"], hashed),
            ).rowcount
            connection.execute(
                "UPDATE users SET password = ? WHERE id = ? AND password = ?", (renewed, row["id"], hashed)
            )
        return cookie if made else None

    def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it has ended or never was."""
        digest, now = _digest(cookie), self._now()
        with self.connect() as connection:
            row = connection.execute(
                "SELECT name, role, used_at FROM sessions JOIN users ON users.id = user_id "
                "WHERE digest = ? AND expires_at > ? AND used_at > ?",
                (digest, now, now - IDLE_S),
            ).fetchone()
            if row is None:
                return None
            if now - row["used_at"] >= _REMEMBERED_S:
                with suppress(sqlite3.OperationalError):  # a full disk does not keep people from looking
                    connection.execute("UPDATE sessions SET used_at = ? WHERE digest = ?", (now, digest))
        return Session(User(row["name"], row["role"]), hmac.new(cookie.encode(), b"page", "sha256").hexdigest())

    def log_out(self, cookie: str) -> None:
        """End a session."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE digest = ?", (_digest(cookie),))

    def add_token(self, name: str, label: str, *, days: int) -> str:
        """Return a new API token of a user; it is not stored, and cannot be shown again."""
        label = require_name(label, what="label of a token", hint='Give one such as "laptop".')
        if not 1 <= days <= _MAX_DAYS:
            raise DataError(f"A token cannot be valid for {days} days.", hint=f"Give `days` from 1 to {_MAX_DAYS}.")
        token, now = _TOKEN_PREFIX + secrets.token_urlsafe(32), self._now()
        with self.transaction() as connection:
            row = _find(connection, name)
            taken = connection.execute(
                "SELECT 1 FROM tokens WHERE user_id = ? AND label = ?", (row["id"], label)
            ).fetchone()
            if taken:
                raise DataError(
                    f'{row["name"]} has a token "{label}" already.',
                    hint='Give another label, or revoke that token first: "nonet users revoke RUN NAME LABEL".',
                )
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?)",
                (_digest(token), row["id"], label, now, now + days * _DAY_S),
            )
        return token

    def of_token(self, token: str) -> User | None:
        """Return whose API token it is; None if it is unknown, revoked or has expired."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT name, role FROM tokens JOIN users ON users.id = user_id WHERE digest = ? AND expires_at > ?",
                (_digest(token), self._now()),
            ).fetchone()
        return None if row is None else User(row["name"], row["role"])

    def revoke(self, name: str, label: str | None = None) -> None:
        """Revoke a user's API token of this label; without one, every token, and every session.

        Raises
        ------
        DataError
            If the user or the token does not exist.
        """
        with self.transaction() as connection:
            row = _find(connection, name)
            if label is None:
                connection.execute("DELETE FROM sessions WHERE user_id = ?", (row["id"],))
                connection.execute("DELETE FROM tokens WHERE user_id = ?", (row["id"],))
                return
            label = unicodedata.normalize("NFC", label.strip())
            deleted = connection.execute("DELETE FROM tokens WHERE user_id = ? AND label = ?", (row["id"], label))
            if not deleted.rowcount:
                raise DataError(
                    f'{row["name"]} has no token "{label}".', hint='"nonet users list RUN" names the tokens.'
                )

    @cached_property
    def _nobody(self) -> str:
        """What the password of an unknown name is compared with."""
        return self._hasher.hash(secrets.token_urlsafe(32))

    def _hash(self, password: str, name: str) -> str:
        given = _as_bytes(password)
        if len(unicodedata.normalize("NFC", password)) < _MIN_CHARACTERS or len(given) > _MAX_BYTES:
            raise DataError(
                f"A password must have at least {_MIN_CHARACTERS} characters, and at most {_MAX_BYTES:,} bytes.",
                hint="Several words that have nothing to do with each other make a good one.",
            )
        if name_key(password) == name_key(name):
            raise DataError("The password must differ from the name.", hint="Choose another password.")
        return self._hasher.hash(given)

    def _now(self) -> int:
        return int(self._clock())


def _as_bytes(password: str) -> bytes:
    """Return a password as it is hashed: keyboards differ in how they compose a letter."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _require_role(role: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise DataError(f'"{role}" is not a role.', hint=choose_from(role, ROLES))


def _find(connection: sqlite3.Connection, name: str) -> sqlite3.Row:
    row = connection.execute("SELECT * FROM users WHERE key = ?", (name_key(name),)).fetchone()
    if row is None:
        known = [each["name"] for each in connection.execute("SELECT name FROM users ORDER BY key")]
        hint = choose_from(name, known) if known else 'Add one: "nonet users add RUN NAME".'
        raise DataError(f'The user "{name}" does not exist.', hint=hint)
    return row


def _require_other_admin(connection: sqlite3.Connection, row: sqlite3.Row, done: str) -> None:
    """Raise DataError if a user is the last admin, and others would be left without one."""
    others = [each["role"] for each in connection.execute("SELECT role FROM users WHERE id != ?", (row["id"],))]
    if row["role"] == "admin" and others and "admin" not in others:
        raise DataError(
            f"{row['name']} is the last admin, and cannot be {done} while there are other users.",
            hint="Make another user an admin first: nonet users role RUN NAME admin",
        )
