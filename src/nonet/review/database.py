"""An SQLite file of the review page: how it is opened, made and written.

Write-ahead log, and each commit reaches the disk before it is acknowledged: a kill at any moment loses nothing that
somebody was told is saved.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from nonet.artifacts.storage import writing_to
from nonet.errors import StorageError

SCHEMA_VERSION = 1
_BUSY_SECONDS = 10.0


def now() -> str:
    """Return the time as it is stored: ISO 8601, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Database:
    """An SQLite file.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    schema : str
        The file of this package that creates its tables, among them `facts`.

    Raises
    ------
    StorageError
        If it cannot be used, or has another layout.
    """

    def __init__(self, path: Path, schema: str):
        self.path = path
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.connect() as connection:
                if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(resources.files("nonet.review").joinpath(schema).read_text(encoding="utf-8"))
                connection.execute("INSERT OR IGNORE INTO facts VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
                (version,) = connection.execute("SELECT value FROM facts WHERE name = 'schema_version'").fetchone()
        except sqlite3.Error as error:
            raise StorageError(
                f"{path} cannot be used: {error}.", hint="Check its permissions and disk, or restore a backup of it."
            ) from error
        if int(version) != SCHEMA_VERSION:
            raise StorageError(
                f"{path} has layout {version}; this nonet reads layout {SCHEMA_VERSION}.",
                hint="Use the version of nonet that wrote it.",
            )

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection of its own, which may be used in any thread; it is closed at the end."""
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that is committed at the end, or undone by an exception."""
        with self.connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
