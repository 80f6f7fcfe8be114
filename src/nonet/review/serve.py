"""`serve`: the review page of a run on this machine, until it is stopped."""

import getpass
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.differential.count import require_predictions
from nonet.errors import DataError, counted
from nonet.models.accelerators import require_devices
from nonet.review.listening import (
    LOOPBACK,
    host_names,
    is_loopback,
    listen,
    require_certificate,
    require_host_names,
)
from nonet.review.names import require_name
from nonet.review.packages import import_packages, needing_packages

if TYPE_CHECKING:
    from nonet.review.accounts import Accounts
    from nonet.review.store import Store

logger = logging.getLogger("nonet")

#: For uvicorn, whose requests are not logged, and whose name is not sent.
_QUIETLY: dict[str, Any] = {
    "log_config": None,
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
}


def serve(
    run: str | Path | Run,
    *,
    cases: Sequence[str | Path] = (),
    port: int = 8765,
    host: str = "127.0.0.1",
    reviewer: str | None = None,
    translations: Sequence[str | Path] = (),
    accelerator: str = "auto",
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    allow_host: Sequence[str] = (),
    show_file_names: bool = False,
) -> None:
    """Serve the page on which a person checks, corrects and signs the differentials of cases.

    It runs until it is stopped (Ctrl-C). What is decided is stored in RUN/review/reviews.sqlite before the page says
    so. If the run has users (see `add_user`), everybody logs in; without users, only this machine can reach the page,
    and everybody who uses it can.

    Parameters
    ----------
    run : str, path or Run
        The run that predicted the cases. Its networks are loaded in the background, to predict images that people
        upload; if they cannot be, the page is for reviewing alone.
    cases : sequence of paths
        Folders of "nonet predict" with cases to add. Those added before stay, and need not be given again.
    port : int
        Port to listen on; 0 takes any free one.
    host : str
        Address to listen on; "0.0.0.0" is every address of this machine. All but "127.0.0.1", "localhost" and "::1"
        need users.
    reviewer : str, optional
        Name under which decisions are stored if the run has no users. Default: the login name of the operating system.
    translations : sequence of paths
        Translations of the pages (PO files) besides English and German. The browser's preferred language is shown, or
        the one chosen on the page.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to predict uploaded images on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.
    certificate : str or path, optional
        PEM file of the certificate to encrypt the page with (TLS).
    key : str or path, optional
        PEM file of the certificate's key, itself not encrypted.
    allow_host : sequence of str
        Names under which browsers call the page, such as "cells.example.org", besides `host` and, on all addresses, the
        names of this machine.
    show_file_names : bool
        Show the names of image files to everybody who logs in, not only to admins and to whoever uploaded them. Names
        of files often name patients.

    Raises
    ------
    RunError
        If it is not a run, another run predicted the cases, or it has no cases and is not fully trained.
    DataError
        If a package is missing, or the port is in use.
    StorageError
        If the reviews cannot be stored.
    """
    run = Run(run)
    run.require()
    require_host_names(allow_host)
    require_devices(accelerator)
    encryption = require_certificate(certificate, key)
    for folder in cases:
        require_predictions(Path(folder).expanduser())
    if not cases and not run.reviews.exists():
        EnsembleFile.read(run)  # the page then shows the run, which must be trained
    for file in translations:
        if not Path(file).expanduser().is_file():
            raise DataError(f"The translation {file} does not exist.", hint="Give a PO file.")
    accounts = _open_accounts(run, host, reviewer)
    name = None if accounts else _reviewer_name(reviewer)
    with listen(host, port) as listener:  # before the imports, as an address in use is an error at once
        uvicorn, make_app = import_packages()
        from nonet.review.languages import Languages
        from nonet.review.roles import User
        from nonet.review.site import Site

        under = f"the name {name}" if name else "the name of whoever logs in"
        site = Site(
            run,
            _open_store(run, cases, under),
            User(name, "admin") if name else None,
            run.folder.resolve().name,
            languages=Languages([Path(file).expanduser() for file in translations]),
            accounts=accounts,
            show_file_names=show_file_names,
            accelerator=accelerator,
        )
        site.hosts = host_names(listener, host, allow_host)
        config = uvicorn.Config(make_app(site), **_QUIETLY, timeout_graceful_shutdown=3, **encryption)
        _announce(listener, host, is_encrypted=bool(encryption))
        site.start()
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            site.stop()


def _announce(listener: socket.socket, host: str, *, is_encrypted: bool) -> None:
    """Say where the page is, and what others on the way could read."""
    if not is_encrypted and not is_loopback(listener):
        logger.warning(
            "Passwords and cells travel unencrypted, unless a proxy on this machine encrypts them. "
            "Give `certificate` and `key` to encrypt them here."
        )
    shown = f"[{host}]" if ":" in host else host
    address = f"{'https' if is_encrypted else 'http'}://{shown}:{listener.getsockname()[1]}"
    logger.info(f"Review page: {address} (Ctrl-C stops it)")


def _open_store(run: Run, cases: Sequence[str | Path], under: str) -> "Store":
    """Return the reviews of a run with the cases of these folders, and say how many there are."""
    from nonet.review.cases import add_cases
    from nonet.review.store import Store

    store = Store(run.reviews)
    num_new = sum(add_cases(store, run, Path(folder).expanduser()) for folder in cases)
    if not store.classes():
        store.classes(EnsembleFile.read(run).classes)
    added = f", {num_new:,} of them new" if num_new else ""
    num_cases = counted(len(store.cases()), "case", "cases")
    logger.info(f"{num_cases}{added}; decisions are stored under {under}.")
    return store


def _open_accounts(run: Run, host: str, reviewer: str | None) -> "Accounts | None":
    """Return the users of a run, or None if it has none; DataError if the page cannot be served so."""
    with needing_packages():
        from nonet.review.accounts import Accounts
    accounts = Accounts(run.users) if run.users.exists() else None
    if accounts is not None and accounts.users():
        if reviewer is not None:
            raise DataError(
                f"{run} has users, so decisions are stored under the name of whoever logs in.",
                hint="Leave `reviewer` out.",
            )
        return accounts
    if host not in LOOPBACK:
        raise DataError(
            f"{run} has no users who could log in, so its page is not served on {host}.",
            hint=f"Add one: nonet users add {run} NAME",
        )
    return None


def _reviewer_name(reviewer: str | None) -> str:
    hint = 'Give `reviewer`, such as "A. Lee".'
    if reviewer is None:
        try:
            reviewer = getpass.getuser()
        except (OSError, KeyError, ImportError) as error:  # no such user in the system's table, as in some containers
            raise DataError("Your login name is not known.", hint=hint) from error
    return require_name(reviewer, what="reviewer's name", hint=hint)
