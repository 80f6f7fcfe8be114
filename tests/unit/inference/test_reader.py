"""Reading ahead of the networks: an image whose reading kills its process is an error of that image alone."""

import os
import signal
import sys

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

    def read(chunks, prepare, num_workers):
        inputs = [[Input(name, tmp_path / name) for name in chunk] for chunk in chunks]
        with Reader((), None, 10_000, num_workers, prepare=prepare) as reader:
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


def test_few_images_are_read_in_this_process_when_needed(read):
    assert read([["a"], ["b", "damaged"]], die_of_poison, 1)[1][0] == {"of": "b"}


@pytest.mark.kill
def test_where_no_process_can_start_no_image_is_blamed(read, monkeypatch):
    monkeypatch.setattr("nonet.workers.end_with_parent", _die)
    with pytest.raises(DataError, match="die when they start"):
        read([["a"]], die_of_poison, 2)


def _die():
    os._exit(1)
