"""`serve`: the review page of a run on this machine, until it is stopped."""

import getpass
import logging
import socket
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.artifacts.storage import storage_error
from nonet.errors import DataError, counted

logger = logging.getLogger("nonet")

#: Names of this machine to itself.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MAX_NAME = 100


def serve(
    run: str | Path | Run,
    *,
    cases: Sequence[str | Path] = (),
    port: int = 8765,
    host: str = "127.0.0.1",
    reviewer: str | None = None,
    translations: Sequence[str | Path] = (),
    accelerator: str = "auto",
) -> None:
    """Serve the page on which a person checks, corrects and signs the differentials of cases.

    It runs until it is stopped (Ctrl-C), and can be reached from this machine only. What is decided is stored in
    RUN/review/reviews.sqlite before the page says so.

    Parameters
    ----------
    run : str, path or Run
        The run that predicted the cases. Its networks are loaded in the background, to predict images that people
        upload; if they cannot be, the page is for reviewing alone.
    cases : sequence of paths
        Folders of "nonet predict" with cases to add. Those added before stay, and need not be given again.
    port : int
        Port to listen on; 0 takes any free one.
    host : {"127.0.0.1", "localhost", "::1"}
        Address to listen on. There is no login yet, so only those of this machine are taken.
    reviewer : str, optional
        Name under which decisions are stored. Default: the login name of the operating system.
    translations : sequence of paths
        Translations of the pages (PO files) besides English and German. The browser's preferred language is shown, or
        the one chosen on the page.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to predict uploaded images on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.

    Raises
    ------
    RunError
        If it is not a run, another run predicted the cases, or there are none and the run is not fully trained.
    DataError
        If a package is missing, or the port is in use.
    StorageError
        If the reviews cannot be stored.
    """
    if host not in _LOOPBACK:
        raise DataError(
            f"The page has no login yet, so it is not served on {host}.",
            hint="Leave `host` out. From another machine, use a tunnel: ssh -L 8765:localhost:8765 THIS_MACHINE",
        )
    uvicorn, make_app = import_packages()
    run, name = Run(run), _reviewer_name(reviewer)
    run.require()
    from nonet.review.access import User
    from nonet.review.cases import add_cases
    from nonet.review.languages import Languages
    from nonet.review.site import Site
    from nonet.review.store import Store

    languages = Languages([Path(file).expanduser() for file in translations])
    store = Store(run.reviews)
    num_new = sum(add_cases(store, run, Path(folder).expanduser()) for folder in cases)
    if not store.classes():
        store.classes(EnsembleFile.read(run).classes)
    num_cases = len(store.cases())
    title = run.folder.resolve().name
    site = Site(run, store, User(name, "admin"), title, languages=languages, accelerator=accelerator)
    app = make_app(site)
    with _listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        added = f", {num_new:,} of them new" if num_new else ""
        logger.info(f"{counted(num_cases, 'case', 'cases')}{added}; decisions are stored under the name {name}.")
        logger.info(f"Review page: {address} (Ctrl-C stops it)")
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        site.start()
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            site.stop()


def import_packages() -> tuple:
    """Return uvicorn and `make_app`; DataError if a package of the page is not installed."""
    try:
        import uvicorn

        from nonet.review.app import make_app
    except ImportError as error:
        if error.name is None or error.name.startswith("nonet"):
            raise
        raise DataError(
            f"The review page needs the package {error.name}, which is not installed.",
            hint='Install it: pip install "nonet[review]"',
        ) from error
    return uvicorn, make_app


def _reviewer_name(reviewer: str | None) -> str:
    if reviewer is None:
        try:
            reviewer = getpass.getuser()
        except (OSError, KeyError, ImportError) as error:  # no such user in the system's table, as in some containers
            raise DataError("Your login name is not known.", hint='Give `reviewer`, such as "A. Lee".') from error
    name = reviewer.strip()
    if not name or len(name) > _MAX_NAME or any(unicodedata.category(one)[0] == "C" for one in name):
        raise DataError(
            f"The reviewer's name must have 1 to {_MAX_NAME} printable characters.",
            hint='Give `reviewer`, such as "A. Lee".',
        )
    return name


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; NonetError if the port cannot be had."""
    if not 0 <= port <= 65535:
        raise DataError(f"{port} is not a port.", hint="Give `port` a number from 1024 to 65535, or 0.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # before the address is said, so that a browser that is quick waits
    except OSError as error:
        listener.close()
        if port:
            raise DataError(
                f"Port {port} of {host} cannot be used: {error.strerror or error}.",
                hint="Another page may be running there. Give another `port`, or 0 for any free one.",
            ) from error
        raise storage_error(error, host) from error
    return listener
