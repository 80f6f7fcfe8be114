"""Run, shards and results in an object store: what this machine's folders give, and errors that name addresses."""

import shutil

import pandas as pd
import pytest

from helpers.stores import download, forget, names_in, upload
from nonet.artifacts.stores import Store
from nonet.differential.count import count
from nonet.errors import DamagedError, DataError, RunError
from nonet.inference.ensemble import Ensemble
from nonet.inference.load import load
from nonet.inference.predict_shard import predict_shard
from nonet.inference.predict_shards import predict_shards
from nonet.inference.sharding import shard_images

OPTIONS = {"accelerator": "cpu", "backend": "torch", "num_workers": 1}


@pytest.fixture(scope="module")
def shards(tiny_dataset, tmp_path_factory):
    return shard_images(tiny_dataset.paths(), out=tmp_path_factory.mktemp("shards") / "shards", images_per_shard=10)


@pytest.fixture(scope="module")
def here(random_run, shards, tmp_path_factory):
    """What folders of this machine give."""
    return predict_shards(random_run, shards.folder, out=tmp_path_factory.mktemp("here") / "out", **OPTIONS)


@pytest.fixture
def there(bucket, random_run, shards):
    upload(random_run.folder, f"{bucket}/run")
    upload(shards.folder, f"{bucket}/shards")
    return bucket


def require_same_results(one, other):
    names = sorted(file.name for file in (other / "results").glob("*.parquet"))
    assert names and names == sorted(file.name for file in (one / "results").glob("*.parquet"))
    for name in names:
        pd.testing.assert_frame_equal(
            pd.read_parquet(one / "results" / name).drop(columns="path"),
            pd.read_parquet(other / "results" / name).drop(columns="path"),
        )


def test_everything_in_a_store(there, here, tmp_path):
    done = predict_shards(f"{there}/run", f"{there}/shards", out=f"{there}/out", **OPTIONS)
    assert done.folder == f"{there}/out" and str(done.folder) in str(done)
    assert (done.num_images, done.labels, done.set_aside) == (here.num_images, here.labels, {})
    require_same_results(download(f"{there}/out", tmp_path / "out"), here.folder)
    counted, as_counted_here = count(done, out=tmp_path / "counted"), count(here, out=tmp_path / "counted-here")
    pd.testing.assert_frame_equal(counted.table(), as_counted_here.table())
    with pytest.raises(DataError, match=f"{there}/out"):
        count(done)


@pytest.mark.parametrize("what", ["run", "shards", "out"])
def test_one_of_them_in_a_store(what, there, random_run, shards, here, tmp_path):
    places = {"run": random_run, "shards": shards.folder, "out": tmp_path / "out"} | {what: f"{there}/{what}"}
    done = predict_shards(places["run"], places["shards"], out=places["out"], **OPTIONS)
    folder = download(done.folder, tmp_path / "down") if what == "out" else done.folder
    require_same_results(folder, here.folder)


def test_resumed_from_another_machine(there, here, tmp_path):
    """Which has no copy; what is there is not predicted again, what was lost or cut is."""
    predict_shards(f"{there}/run", f"{there}/shards", out=f"{there}/out", **OPTIONS)
    forget(tmp_path)
    out = Store(f"{there}/out")
    out.remove(["results/000001.parquet"])
    (tmp_path / "cut").write_bytes(b"PAR1")
    out.put(tmp_path / "cut", "results/000002.parquet")
    before = {name: out.state(name) for name in ("results/000000.parquet", "results/000000.json")}
    again = predict_shards(f"{there}/run", f"{there}/shards", out=f"{there}/out", **OPTIONS)
    assert again.num_images == here.num_images
    assert before == {name: out.state(name) for name in before}
    require_same_results(download(f"{there}/out", tmp_path / "out"), here.folder)


def test_one_shard(there, here, random_run, tmp_path):
    place = f"{there}/one/000001.parquet"
    assert predict_shard(f"{there}/shards/shard-000001.parquet", out=place, run=f"{there}/run", **OPTIONS) == place
    assert names_in(f"{there}/one") == ["000001.json", "000001.parquet"]
    table = pd.read_parquet(download(f"{there}/one", tmp_path / "one") / "000001.parquet")
    expected = pd.read_parquet(here.folder / "results" / "000001.parquet")
    pd.testing.assert_frame_equal(table, expected)


@pytest.mark.parametrize("pattern", ["{}/shards/*.parquet", "{}/shar*/shard-00000[012].parquet"])
def test_patterns(there, here, tmp_path, pattern, random_run, shards):
    """As in a file system, a star stands for no slash."""
    upload(shards.folder, f"{there}/shards/old")
    done = predict_shards(random_run, pattern.format(there), out=tmp_path / "out", **OPTIONS)
    require_same_results(done.folder, here.folder)


def test_a_damaged_shard_is_set_aside_by_its_address(there, shards, tmp_path, random_run):
    shutil.copyfile(shards.folder / "shard-000001.parquet", tmp_path / "cut")
    with (tmp_path / "cut").open("rb+") as file:
        file.truncate(500)
    Store(f"{there}/shards").put(tmp_path / "cut", "shard-000001.parquet")
    Store(f"{there}/shards").remove(["shard-000002.parquet"])
    done = predict_shards(random_run, f"{there}/shards", out=f"{there}/out", **OPTIONS)
    names = [f"{there}/shards/shard-00000{number}.parquet" for number in (1, 2)]
    assert sorted(done.set_aside) == names
    assert all(name in error for name, error in done.set_aside.items())
    assert "set_aside.csv" in names_in(f"{there}/out")
    upload(shards.folder, f"{there}/shards")
    again = predict_shards(random_run, f"{there}/shards", out=f"{there}/out", **OPTIONS)
    assert again.set_aside == {} and "set_aside.csv" not in names_in(f"{there}/out")


def test_what_is_not_there(there, random_run, tmp_path):
    with pytest.raises(DataError, match=f"{there}/nothing"):
        predict_shards(random_run, f"{there}/nothing", out=tmp_path / "out", **OPTIONS)
    with pytest.raises(RunError, match=f"{there}/nothing"):
        predict_shards(f"{there}/nothing", f"{there}/shards", out=tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_name_looks_like_a_pattern(there, here, random_run, shards, tmp_path):
    upload(shards.folder, f"{there}/shards [1]")
    done = predict_shards(random_run, f"{there}/shards [1]", out=tmp_path / "out", **OPTIONS)
    require_same_results(done.folder, here.folder)


def test_a_prediction_of_images_is_not_counted_there(there, tmp_path):
    with pytest.raises(DataError, match=f"{there}/run"):
        count(f"{there}/run", out=tmp_path / "counted")


def test_a_damaged_result_is_named_by_its_address(there, random_run, tmp_path):
    done = predict_shards(random_run, f"{there}/shards", out=f"{there}/out", **OPTIONS)
    (tmp_path / "cut").write_bytes(b"PAR1")
    Store(f"{there}/out").put(tmp_path / "cut", "results/000001.parquet")
    with pytest.raises(DamagedError, match=f"{there}/out/results/000001.parquet"):
        count(done, out=tmp_path / "counted")


def test_other_shards_or_models_are_not_mixed(there, random_run, tmp_path):
    predict_shards(random_run, f"{there}/shards", out=f"{there}/out", **OPTIONS)
    with pytest.raises(RunError, match=f"{there}/out"):
        predict_shards(random_run, f"{there}/shards", out=f"{there}/out", views="none", **OPTIONS)


def test_a_run_that_is_loaded_from_a_store(there, random_run, tiny_dataset):
    ensemble = load(f"{there}/run", accelerator="cpu", backend="torch")
    assert isinstance(ensemble, Ensemble)
    expected = load(random_run, accelerator="cpu", backend="torch")
    paths = tiny_dataset.paths()[:4]
    assert (ensemble.predict_logits(paths) == expected.predict_logits(paths)).all()
