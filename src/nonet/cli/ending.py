"""How a command ends: errors become a message and an exit status, and output suits every terminal."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from nonet.artifacts.storage import storage_error
from nonet.cli.options import with_options
from nonet.errors import NonetError, printable
from nonet.stopping import FROM_SCHEDULERS

logger = logging.getLogger("nonet")

STOPPED = "Stopped. Run the same command again to continue."


class _Terminated(KeyboardInterrupt):
    """A signal of `kill` or a scheduler, its argument: handled as Ctrl-C."""


def run_for_exit_status(command: Callable[[], object]) -> int:
    """Run a command and return its exit status.

    A NonetError, a full disk or Ctrl-C is a message on standard error, not a traceback.

    Parameters
    ----------
    command : callable
        Takes no argument.

    Returns
    -------
    int
        0; 2 for an error; 128 + the signal's number if one stopped it: 130 for Ctrl-C, 143 for SIGTERM, 138 for
        SIGUSR1.
    """
    _print_anything()
    try:
        with _terminable():
            command()
        sys.stdout.flush()
    except NonetError as error:
        return say_error(error)
    except BrokenPipeError:  # the other end of a pipe, such as head, has closed it
        for stream in (sys.stdout, sys.stderr):  # else Python would try again at exit, and complain
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
                continue
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 1
    except OSError as error:
        return say_error(storage_error(error))
    except MemoryError:
        return say_error(NonetError("Memory ran out.", "Close other programs, or lower --workers."))
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    return 0


def leave(status: int) -> NoReturn:
    """Exit, without waiting for threads that hang, as they do while a network drive is gone."""
    workers = sys.modules.get("nonet.workers")  # not imported for this, as most mistakes end before it is
    if status and workers and workers.threads_hang():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def say_error(error: NonetError) -> int:
    """Print an error, and return its exit status."""
    print(f"error: {printable(with_options(str(error)))}", file=sys.stderr)
    logger.debug("Traceback:", exc_info=error)
    return 2


def _print_anything() -> None:
    """Write characters that the terminal's code page lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn signals of schedulers into an exception, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise _Terminated(number)

    before = {number: signal.signal(number, terminate) for number in FROM_SCHEDULERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(stop: KeyboardInterrupt) -> int:
    print(f"\n{STOPPED}", file=sys.stderr)
    return 128 + (stop.args[0] if isinstance(stop, _Terminated) else signal.SIGINT)
