"""Tasks that run in other processes, here or on other machines: what they are, what they need, and how they ended.

The machines share a file system: a task gets paths, and leaves its results as files that are written whole. So nothing
is lost that was finished, and a task that is run again finds what it had done.
"""

import logging
import os
import pickle
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from nonet.errors import NonetError
from nonet.progress import hide_progress

#: How often the process of a task may die before the task is given up.
MAX_DEATHS = 2


class LostError(NonetError):
    """The process of a task died each time that the task was run."""


@dataclass(frozen=True)
class Task:
    """A call of a function in another process.

    Attributes
    ----------
    name : str
        Shown to the user.
    function : callable
        Importable there.
    arguments : tuple
        Picklable.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple = ()


@dataclass(frozen=True)
class Needs:
    """What a task needs while it runs.

    Attributes
    ----------
    devices : int
        Number of GPUs.
    processors : int or None
        Number of processors; None leaves it to the engine, 0 is a task that only waits.
    """

    devices: int = 0
    processors: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes
    ----------
    task : Task
    value : object
        What the function returned.
    error : NonetError or None
        What it raised, or a LostError if its process died each time.
    """

    task: Task
    value: Any = None
    error: NonetError | None = None


class Engine(Protocol):
    """Runs tasks in processes that it keeps between them."""

    def run(self, tasks: Sequence[Task], needs: Needs) -> Generator[Outcome, None, None]:
        """Run tasks, and yield how each ended, in the order in which they end.

        Closing the iterator stops what is running.

        Parameters
        ----------
        tasks : sequence of Task
        needs : Needs
            Of each task.

        Yields
        ------
        Outcome
        """
        ...

    def has_gpus(self) -> bool:
        """Whether there are GPUs to run tasks on."""
        ...


class Reply(NamedTuple):
    """What a process sends back about a task; errors in parts, as Python's own way of sending them loses the hint."""

    value: Any = None
    error: tuple[type[NonetError], str, str | None] | None = None
    log: Sequence[tuple[int, str]] = ()

    @classmethod
    def of_error(cls, error: NonetError, log: Sequence[tuple[int, str]] = ()) -> "Reply":
        return cls(None, (type(error), error.message, error.hint), log)


@dataclass
class _Kept(logging.Handler):
    """Keeps what is logged, for the process that the user sees."""

    records: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.INFO)

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelno, record.getMessage()))


def pack(task: Task) -> bytes:
    """Return a task as bytes, so that the environment can be set before its function is imported."""
    return pickle.dumps((task.function, task.arguments))


def call(packed: bytes, environment: dict[str, str]) -> Reply:
    """Run a task in this process, which is not the one that the user sees.

    Parameters
    ----------
    packed : bytes
        From `pack`.
    environment : dict of str to str
        Environment variables to set first.

    Returns
    -------
    Reply
    """
    os.environ.update(environment)
    hide_progress()
    logger, kept = logging.getLogger("nonet"), _Kept()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        function, arguments = pickle.loads(packed)
        return Reply(function(*arguments), None, kept.records)
    except NonetError as error:
        return Reply.of_error(error, kept.records)
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)
        logger.propagate = propagates


def outcome_of(task: Task, reply: Reply) -> Outcome:
    """Return a task's outcome, and log here what was logged there."""
    logger = logging.getLogger("nonet")
    for number, text in reply.log:
        logger.log(number, text)
    if reply.error is None:
        return Outcome(task, reply.value)
    kind, message, hint = reply.error
    return Outcome(task, error=kind(message, hint))


def lost(task: Task, what: str) -> Outcome:
    """Return the outcome of a task whose process died too often.

    Parameters
    ----------
    task : Task
    what : str
        What happened the last time, as a clause: "its process died again".
    """
    return Outcome(
        task,
        error=LostError(
            f"{task.name} was given up: {what}.",
            hint="Memory may be short. Finished work is kept; run the same command again.",
        ),
    )


def environment_of(processors: int | None, devices: Sequence[int] | None = None) -> dict[str, str]:
    """Return environment variables that keep a process to its share of a machine.

    Parameters
    ----------
    processors : int, optional
        How many it may use.
    devices : sequence of int, optional
        Which GPUs it may use.

    Returns
    -------
    dict of str to str
    """
    variables: dict[str, str] = {}
    if processors:
        variables |= {"LOKY_MAX_CPU_COUNT": str(processors), "OMP_NUM_THREADS": str(processors)}
    if devices is not None:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
    return variables
