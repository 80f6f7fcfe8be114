"""Copies of folders of an object store: nothing is lost, nothing foreign is touched, errors say what to do."""

from pathlib import Path

import pytest
import s3fs

from helpers.stores import names_in, upload
from nonet.artifacts.mirror import Mirror, fetch, mirrored
from nonet.artifacts.storage import FolderKind
from nonet.artifacts.stores import Store, copied_out, local_copy
from nonet.artifacts.urls import as_url
from nonet.errors import BusyError, NonetError, RunError, StorageError

KIND = FolderKind("thing", main="main.json", keys={"a"}, hint="Give another.")


@pytest.mark.parametrize(
    "given, url",
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        (Path("s3://bucket/a/b"), "s3://bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        ("a/b", None),
        (Path("/a/b"), None),
        ("C:/a", None),
        ("csv:/data/ours.csv", None),
        ("acevedo://x", None),
        (None, None),
    ],
)
def test_what_is_an_address(given, url):
    assert as_url(given) == url


def test_the_address_of_a_local_file_is_refused():
    with pytest.raises(RunError, match="file:///a/b"):
        as_url("file:///a/b")


def test_a_scheme_whose_package_is_missing_says_which(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(StorageError) as caught:
        Store("s3://bucket")
    assert "nonet[s3]" in caught.value.hint


def test_a_bucket_that_does_not_exist(bucket):
    with (
        pytest.raises(StorageError, match="s3://nobody-has-this"),
        mirrored("s3://nobody-has-this/run", KIND) as mirror,
    ):
        (mirror.folder / "main.json").write_text("{}")


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()  # else one that knows another server is used
    with pytest.raises(StorageError, match="cannot be used now") as caught:
        Store("s3://bucket/run").files()
    s3fs.S3FileSystem.clear_instance_cache()
    assert "credentials" in caught.value.hint


def test_what_is_written_is_copied_and_what_is_removed_is_removed(bucket):
    with mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
        (mirror.folder / "deep" / "er").mkdir(parents=True)
        (mirror.folder / "deep" / "er" / "x").write_text("x")
        (mirror.folder / ".nonet.lock").touch()
        (mirror.folder / ".nonet-tmp.y.1").touch()
        mirror.push()
        assert names_in(f"{bucket}/one") == ["deep/er/x", "main.json"]
        (mirror.folder / "deep" / "er" / "x").unlink()
    assert names_in(f"{bucket}/one") == ["main.json"]


def test_what_was_written_before_an_error_is_copied(bucket):
    with pytest.raises(ZeroDivisionError), mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
        raise ZeroDivisionError
    assert names_in(f"{bucket}/one") == ["main.json"]


def test_another_machine_goes_on(bucket, tmp_path):
    url = f"{bucket}/one"
    one, two = Mirror(url, tmp_path / "one"), Mirror(url, tmp_path / "two")
    for mirror in (one, two):
        mirror.folder.mkdir()
    (one.folder / "a").write_text("1")
    (one.folder / "b").write_text("1")
    one.push()
    two.pull()
    (two.folder / "a").write_text("22")
    (two.folder / "b").unlink()
    two.push()
    (one.folder / "mine").write_text("not copied yet")
    one.pull()
    assert {file.name: file.read_text() for file in one.folder.iterdir()} == {"a": "22", "mine": "not copied yet"}


def test_what_a_killed_process_had_not_copied_yet_is_copied_by_the_next(bucket):
    url = f"{bucket}/one"
    with mirrored(url, KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
    (mirror.folder / "main.json").write_text('{"a": 22}')
    (mirror.folder / "more").write_text("x")
    with mirrored(url, KIND) as mirror:
        assert (mirror.folder / "main.json").read_text() == '{"a": 22}'
    assert names_in(url) == ["main.json", "more"]
    with local_copy(f"{url}/main.json") as file:
        assert file.read_text() == '{"a": 22}'


def test_a_copy_that_was_removed_from_this_machine_removes_nothing_from_the_store(bucket):
    url = f"{bucket}/one"
    with mirrored(url, KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
        (mirror.folder / "more").write_text("x")
    (mirror.folder / "more").unlink()  # by what clears caches
    with mirrored(url, KIND) as mirror:
        assert (mirror.folder / "more").read_text() == "x"
        for file in mirror.folder.iterdir():
            file.unlink()
    assert names_in(url) == ["main.json", "more"]


def test_a_foreign_folder_is_neither_copied_nor_changed(bucket, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    upload(tmp_path / "mine", f"{bucket}/mine")
    with pytest.raises(StorageError, match=r"thesis\.txt"), mirrored(f"{bucket}/mine", KIND):
        pass
    assert names_in(bucket) == ["mine/thesis.txt"]


def test_two_processes_of_a_machine(bucket):
    with mirrored(f"{bucket}/one", KIND), pytest.raises(BusyError), mirrored(f"{bucket}/one", KIND):
        pass


def test_that_other_machines_are_not_noticed_is_said(bucket, caplog):
    with mirrored(f"{bucket}/one", KIND):
        assert f"{bucket}/one" in caplog.text


def test_a_store_that_is_away_for_a_while_loses_nothing(bucket, monkeypatch, caplog):
    put, broken = Store.put, []
    monkeypatch.setattr("nonet.artifacts.mirror.SECONDS_BETWEEN_COPIES", 0.05)

    def put_or_fail(self, file, name):
        if len(broken) < 3:
            broken.append(name)
            raise StorageError("The store is away.")
        put(self, file, name)

    monkeypatch.setattr(Store, "put", put_or_fail)
    with mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
        while len(broken) < 3:
            pass
    assert names_in(f"{bucket}/one") == ["main.json"]
    assert caplog.text.count("The store is away.") == 1


def test_reading_brings_up_to_date_what_changed_and_nothing_else(bucket, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for name in ("a.json", "b.json", "big.bin"):
        (tmp_path / "mine" / name).write_text("1")
    upload(tmp_path / "mine", f"{bucket}/mine")
    got, get = [], Store.get
    monkeypatch.setattr(Store, "get", lambda self, name, file: got.append(name) or get(self, name, file))
    fetch(f"{bucket}/mine", only=["*.json"])
    (tmp_path / "mine" / "b.json").write_text("22")
    upload(tmp_path / "mine", f"{bucket}/mine")
    folder = fetch(f"{bucket}/mine", only=["a.json", "b.json"])
    assert (folder / "b.json").read_text() == "22"
    # A copy of the same bytes may have another tag, so only what was never asked for is certain.
    assert got[:2] == ["a.json", "b.json"] and "b.json" in got[2:] and "big.bin" not in got


def test_a_file_is_copied_out_before_those_beside_it(bucket, monkeypatch):
    put, order = Store.put, []
    monkeypatch.setattr(Store, "put", lambda self, file, name: order.append(name) or put(self, file, name))
    with copied_out(f"{bucket}/results/7.parquet") as path:
        path.with_suffix(".json").write_text("record")
        path.write_text("rows")
    assert order == ["7.parquet", "7.json"]
    with pytest.raises(ZeroDivisionError), copied_out(f"{bucket}/results/8.parquet") as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert names_in(bucket) == ["results/7.json", "results/7.parquet"]


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {url}",
        "calibrate {url}",
        "issues {url}",
        "data build folder:. --out {url}",
        "data check {url}",
        "data folds {url}",
        "compare {url} reference.csv",
        "count {url}",
        "table {url}",
        "serve {url}",
        "demo {url}",
    ],
)
def test_what_needs_a_folder_says_so(words, refused, tmp_path, monkeypatch):
    """And makes no folder named "s3:"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EO").mkdir()
    (tmp_path / "reference.csv").write_text("path,label\n")
    assert "s3://bucket/run" in refused(*words.format(url="s3://bucket/run").split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EO", "reference.csv"]


def test_errors_are_ours(bucket):
    with pytest.raises(FileNotFoundError), local_copy(f"{bucket}/nothing"):
        pass
    assert issubclass(StorageError, NonetError) and Store(bucket).state("nothing") is None
