"""Tasks for engines: importable by the processes that run them."""

import logging
import os
import signal
import time

from nonet.errors import DataError


def square(number):
    return number * number


def fail(path):
    raise DataError(f"{path} is empty.", hint="Look at it.")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker):
    if not marker.exists():
        marker.touch()
        die()
    return "alive"


def warn():
    logging.getLogger("nonet").warning("look here")


def sleep():
    time.sleep(600)


def environment(name):
    return os.environ.get(name)
