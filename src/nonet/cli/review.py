"""`nonet serve`, `nonet users` and `nonet backup`."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import nonet
from nonet.artifacts.storage import storage_error
from nonet.cli.options import Accelerator, RunFolder, documented_by
from nonet.cli.output import in_columns, say
from nonet.errors import DataError

Role = Literal["reader", "reviewer", "admin"]
PasswordFile = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]
_MAX_BYTES = 4096


@documented_by("serve")
def serve(
    run: RunFolder,
    *,
    cases: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=True)] = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    reviewer: str | None = None,
    translations: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=True)] = None,
    accelerator: Accelerator = "auto",
    certificate: Path | None = None,
    key: Path | None = None,
    allow_host: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    show_file_names: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    nonet.serve(
        run,
        cases=cases or (),
        port=port,
        host=host,
        reviewer=reviewer,
        translations=translations or (),
        accelerator=accelerator,
        certificate=certificate,
        key=key,
        allow_host=allow_host or (),
        show_file_names=show_file_names,
    )


@documented_by("backup")
def backup(run: RunFolder, *, out: Path) -> None:
    say(nonet.backup(run, out))


@documented_by("add_user")
def add(run: RunFolder, name: str, *, role: Role = "reviewer", password_file: PasswordFile = None) -> None:
    """
    Parameters
    ----------
    password_file : path
        Text file with the password; - reads standard input. Default: ask for it, twice.
    """
    from nonet.review.users import user_rows

    is_first = not user_rows(run)
    nonet.add_user(run, name, password=_read_password(password_file), role=role)
    say(f"{name} can log in as {role}.")
    if is_first:
        say("Everybody logs in from now on. A page that is already running asks for it once it is restarted.")


@documented_by("list_users")
def list_(run: RunFolder) -> None:
    from nonet.review.users import user_rows

    users = user_rows(run)
    say(in_columns(users) if users else "No users.")


@documented_by("remove_user")
def remove(run: RunFolder, name: str) -> None:
    nonet.remove_user(run, name)
    say(f"{name} can no longer log in.")


@documented_by("set_password")
def password(run: RunFolder, name: str, *, password_file: PasswordFile = None) -> None:
    """
    Parameters
    ----------
    password_file : path
        Text file with the password; - reads standard input. Default: ask for it, twice.
    """
    nonet.set_password(run, name, password=_read_password(password_file))
    say(f"{name} has a new password, and is logged out.")


@documented_by("set_role")
def role(run: RunFolder, name: str, role: Role) -> None:
    nonet.set_role(run, name, role)
    say(f"{name} has the role {role}, and is logged out.")


@documented_by("make_token")
def token(run: RunFolder, name: str, label: str, *, days: int = 90) -> None:
    say(nonet.make_token(run, name, label, days=days))


@documented_by("revoke_token")
def revoke(run: RunFolder, name: str, label: str | None = None) -> None:
    nonet.revoke_token(run, name, label)
    say(f'The token "{label}" of {name} is revoked.' if label else f"All tokens and logins of {name} are revoked.")


def _read_password(file: Path | None) -> str:
    """Return a password from the terminal or a file: in the words of a command, other users of the machine read it."""
    if file is None:
        if not sys.stdin.isatty():
            raise DataError("The password cannot be asked for: this is not a terminal.", hint="Give `password_file`.")
        try:
            words = getpass.getpass("Password: "), getpass.getpass("Again: ")
        except EOFError as error:
            raise DataError("No password was given.") from error
        if words[0] != words[1]:
            raise DataError("The two passwords differ. Nothing was changed.", hint="Run the same command again.")
        return words[0]
    try:
        if file == Path("-"):
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with file.expanduser().open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise storage_error(error, file) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text.", hint="Store the password as UTF-8, on one line.") from error
    lines = text.splitlines()
    if len(data) > _MAX_BYTES or len(lines) != 1 or not lines[0]:
        raise DataError(f"{file} does not have a password on one line.", hint="Write the password, and nothing else.")
    return lines[0]
