"""How a command ends: its output can be shown anywhere, and an error of the user's is words and an exit status."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from nonet.artifacts.storage import in_words
from nonet.errors import NonetError, printable

logger = logging.getLogger("nonet")

STOPPED = "Stopped. Run the same command again to continue."


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill` and cluster schedulers send it: the same way out as Ctrl-C."""


def exit_status_of(command: Callable[[], object]) -> int:
    """Run a command and return its exit status: 0, what it exits with, 2 for an error, 130 or 143 where it is stopped.

    An error of the user's, a full disk or Ctrl-C is a message on standard error, not a traceback.
    """
    _print_anything()
    try:
        with _terminable():
            command()
        sys.stdout.flush()
    except NonetError as error:
        return say_error(error)
    except BrokenPipeError:  # the reader of a pipe, head say, has seen enough
        for stream in (sys.stdout, sys.stderr):  # else Python would try once more when it ends, and complain
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
                continue
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 1
    except OSError as error:
        return say_error(in_words(error))
    except MemoryError:
        return say_error(NonetError("Memory ran out.", "Close other programs, or give fewer --workers."))
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    return 0


def say_error(error: NonetError) -> int:
    """Print an error of the user's, and return the exit status that goes with it."""
    print(f"error: {printable(error)}", file=sys.stderr)
    logger.debug("It was raised here:", exc_info=error)
    return 2


def say(text: object = "") -> None:
    """Print text that may hold names from elsewhere; what a terminal would obey is escaped."""
    print(printable(text))


def _print_anything() -> None:
    """Let output be redirected to a code page that lacks letters: these become escapes instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block by an exception, so that what it began is tidied up."""
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
