"""Reading ahead of the networks: an image whose reading kills its process is an error of that image alone."""

import errno
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from nonet.data.shards.shard_image import ShardImage
from nonet.errors import DataError, UnreadableNowError
from nonet.inference.inputs import Input
from nonet.inference.reader import Reader


def die_of_poison(task):
    path = Path(task.name)
    if "poison" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return DataError("damaged") if "damaged" in path.name else {"of": path.name}


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setattr("nonet.data.preprocess.cache.warm_up", lambda: None)

    def read(chunks, prepare, num_workers, num_images=10_000, kind=lambda name: Input(name, tmp_path / name)):
        inputs = [[kind(name) for name in chunk] for chunk in chunks]
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


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_so_it_is_with_images_of_a_shard(read):
    found = read([["a", "poison", "b"]], die_of_poison, 2, kind=lambda name: ShardImage(name, name, "", b"bytes"))
    assert found[0][0] == {"of": "a"} and found[0][2] == {"of": "b"}
    assert isinstance(found[0][1], UnreadableNowError) and "poison" in found[0][1].message


def test_a_reader_that_was_given_up_reads_others(tmp_path):
    """As when a shard turns out to be damaged in its middle, and the next one is read."""
    with Reader((), None, 3, 1, prepare=lambda task: task.name) as reader:
        next(reader.read([[Input(name, Path(name))] for name in "abcdef"]))
        assert list(reader.read([[Input(name, Path(name))] for name in "xy"])) == [["x"], ["y"]]


def stop_for_ever(task):
    """SIGSTOP, which no other signal but SIGKILL comes through: as a read of a drive that is gone."""
    path = Path(task.name)
    first_time = path.with_name(f"{path.name} was tried")
    if "slow" in path.name or ("once" in path.name and not first_time.exists()):
        first_time.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return {"of": path.name}


@pytest.fixture
def impatient(monkeypatch):
    """Longer than a process takes to start."""
    monkeypatch.setattr("nonet.workers.STALLED_SECONDS", 6.0)


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
def test_a_process_that_hangs_costs_one_image_and_none_if_it_is_read_later(read, impatient):
    found = read([["a", "once"], ["b", "slow", "c"], ["d"]], stop_for_ever, 2)
    assert [[one["of"] if isinstance(one, dict) else type(one) for one in chunk] for chunk in found] == [
        ["a", "once"],
        ["b", UnreadableNowError, "c"],
        ["d"],
    ]
    assert "slow" in found[1][1].message


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
def test_a_drive_that_is_gone_ends_the_prediction(read, monkeypatch):
    monkeypatch.setattr("nonet.workers.STALLED_SECONDS", 2.0)
    with pytest.raises(DataError, match=r"slow 2 .* 3 images in a row") as caught:
        read([[f"slow {number}" for number in range(9)]], stop_for_ever, 2)
    assert "same command again" in caught.value.hint


def test_a_thread_that_hangs_is_reported_and_waited_for(read, monkeypatch, caplog):
    monkeypatch.setattr("nonet.workers.STALLED_SECONDS", 0.02)
    there = threading.Event()

    class Reconnect(logging.Handler):
        def emit(self, record):
            there.set()

    def wait(task):
        if "slow" in Path(task.name).name:
            assert there.wait(60)
        return Path(task.name).name

    handler = Reconnect()
    logging.getLogger("nonet").addHandler(handler)
    try:
        assert read([["a"], ["slow"], ["b"]], wait, 1) == [["a"], ["slow"], ["b"]]
    finally:
        logging.getLogger("nonet").removeHandler(handler)
    assert "slow" in caplog.text


def this_process(task):
    return os.getpid()


@pytest.mark.parametrize(("num_workers", "num_images"), [(1, 10_000), (2, 20)])
def test_few_images_and_those_of_one_worker_are_read_by_threads_of_this_process(read, num_workers, num_images):
    assert read([["a"], ["b", "c"]], this_process, num_workers, num_images) == [[os.getpid()], [os.getpid()] * 2]


def test_threads_read_ahead_of_whoever_takes_the_images(tmp_path):
    begun = threading.Event()
    with Reader((), None, 3, 1, prepare=lambda task: begun.set() if Path(task.name).name == "c" else None) as reader:
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
