"""Signals that ask a process to stop: work is saved first, then the signal does what it would have done."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

#: Sent by schedulers: SIGTERM at the end of a job's time, the other two before it, where a job asks for that.
FROM_SCHEDULERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
_STOPPING = (signal.SIGINT, *FROM_SCHEDULERS, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

#: Seconds that processes have to save their work; schedulers grant about 30.
GRACE = 25.0


class SavedStops:
    """Saves work before a signal stops this process, as a context manager; without effect outside the main thread.

    Whoever handled the signal before handles it once the work is saved; by default, the process ends. A second Ctrl-C
    is not waited for. Signals that are ignored stay so.

    Parameters
    ----------
    save : callable
        Called between any two instructions of the block, except within `held`.
    """

    def __init__(self, save: Callable[[], None]):
        self._save = save
        self._is_held = False
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SavedStops":
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: another library's, which could not be restored
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._noted is not None and kind is None:
            self._pass_on(self._noted)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep signals until the end of the block, as a context manager: what is saved must not change half way."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._noted is not None:
            self._stop()

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_first, self._noted = self._noted is None, number
        if not is_first and number == signal.SIGINT:
            self._pass_on(number)
        elif is_first and not self._is_held:
            self._stop()

    def _stop(self) -> None:
        self._save()
        number, self._noted = self._noted, None
        assert number is not None  # `_note` has set it
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, None)  # may return, and then the work continues
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)


def ignore_stops() -> None:
    """Ignore the signals that ask to stop, in a process that another one ends once work is saved."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def end_processes(processes: Collection["BaseProcess"], *, one_saves: bool = False) -> None:
    """Ask processes to end, and end those that still run after the time that schedulers grant.

    Parameters
    ----------
    processes : collection of Process
    one_saves : bool
        Whether only one of them has work to save, and the others ignore the signals that ask to stop.
    """
    from multiprocessing.connection import wait  # here, as every command imports this module

    for process in processes:
        process.terminate()
    end, running = time.monotonic() + GRACE, {process.sentinel for process in processes}
    while running and (seconds_left := end - time.monotonic()) > 0:
        ended = wait(running, timeout=seconds_left)
        running -= set(ended)
        if ended and one_saves:
            break
    for process in processes:
        process.kill()
