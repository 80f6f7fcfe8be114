"""Reading ahead of the networks: an image whose reading kills its process is an error of that image alone."""

import errno
import os
import signal
import sys
import threading

import pytest

from nonet.errors import DataError, UnreadableNowError
from nonet.inference.inputs import Input
from nonet.inference.reader import Reader


def die_of_poison(task):
    path, _, _ = task
    if "poison" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return DataError("damaged") if "damaged" in path.name else {"of": path.name}


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setattr("nonet.data.preprocess.cache.warm_up", lambda: None)

    def read(chunks, prepare, num_workers, num_images=10_000):
        inputs = [[Input(name, tmp_path / name) for name in chunk] for chunk in chunks]
        with Reader((), None, num_images, num_workers, prepare=prepare) as reader:
            return list(reader.read(inputs))

    return read


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_that_dies_costs_one_image(read):
    chunks = [["a", "damaged"], ["b", "poison", "c"], ["d"], ["e"]]
    found = read(chunks, die_of_poison, 2)
    assert [[one["of"] if isinstance(one, dict) else type(one) for one in chunk] for chunk in found] == [
        ["a", DataError],
        ["b", UnreadableNowError, "c"],
        ["d"],
        ["e"],
    ]
    assert "poison" in found[1][1].message


def this_process(task):
    return os.getpid()


@pytest.mark.parametrize(("num_workers", "num_images"), [(1, 10_000), (2, 20)])
def test_few_images_and_those_of_one_worker_are_read_by_threads_of_this_process(read, num_workers, num_images):
    assert read([["a"], ["b", "c"]], this_process, num_workers, num_images) == [[os.getpid()], [os.getpid()] * 2]


def test_threads_read_ahead_of_whoever_takes_the_images(tmp_path):
    begun = threading.Event()
    with Reader((), None, 3, 1, prepare=lambda task: begun.set() if task[0].name == "c" else None) as reader:
        chunks = reader.read([[Input(name, tmp_path / name)] for name in "abc"])
        next(chunks)
        assert begun.wait(60)


def test_without_shared_memory_images_are_read_by_threads(read, monkeypatch, caplog):
    """As in a container whose /dev/shm has 4 kB: no lock can be made for processes to share."""

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("concurrent.futures.process._SafeQueue", no_room)
    assert read([["a"]], this_process, 2) == [[os.getpid()]]
    assert "/dev/shm" in caplog.text


@pytest.mark.kill
def test_where_no_process_can_start_no_image_is_blamed(read, monkeypatch):
    monkeypatch.setattr("nonet.workers.end_with_parent", _die)
    with pytest.raises(DataError, match="die when they start"):
        read([["a"]], die_of_poison, 2)


def _die():
    os._exit(1)
