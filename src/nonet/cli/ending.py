"""How a command ends: errors become a message and an exit status, and output suits every terminal."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from nonet.artifacts.storage import storage_error
from nonet.cli.options import with_options
from nonet.errors import NonetError, printable

logger = logging.getLogger("nonet")

STOPPED = "Stopped. Run the same command again to continue."


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill` and cluster schedulers send it: handled as Ctrl-C."""


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
        0; 2 for an error; 130 or 143 if stopped by Ctrl-C or SIGTERM.
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
    """Turn SIGTERM into an exception, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(stop: KeyboardInterrupt) -> int:
    print(f"\n{STOPPED}", file=sys.stderr)
    return 143 if isinstance(stop, _Terminated) else 130
