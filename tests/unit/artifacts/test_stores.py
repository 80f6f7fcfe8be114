"""Copies of folders of an object store: nothing is lost, nothing foreign is touched, errors say what to do."""

import errno
from pathlib import Path

import pytest
import s3fs

from helpers.stores import names_in, upload
from nonet.artifacts.mirror import Mirror, fetched, matches, mirrored, working_copy
from nonet.artifacts.storage import FolderKind
from nonet.artifacts.stores import Store, copied_out, local_copy
from nonet.artifacts.urls import as_url
from nonet.errors import BusyError, DataError, NonetError, RunError, StorageError

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
        ("S3://bucket/A", "s3://bucket/A"),
        ("zip:/a", None),
        (None, None),
    ],
)
def test_what_is_an_address(given, url):
    assert as_url(given) == url


@pytest.mark.parametrize("given", ["s3://", Path("s3://"), "s3:///", "s3://bucket/..", "s3://bucket/./x"])
def test_an_address_that_leads_nowhere_is_refused(given):
    with pytest.raises(RunError):
        as_url(given)


@pytest.mark.parametrize(
    "name, pattern, fits",
    [
        ("a/b.json", "*.json", False),
        ("b.json", "*.json", True),
        ("a/b/c", "a/**", True),
        ("a", "a/**", True),
        ("ab/c", "a/**", False),
        ("a/b/c", "a/*/c", True),
        ("anything/at/all", "**", True),
    ],
)
def test_patterns_are_matched_part_by_part(name, pattern, fits):
    assert matches(name, pattern) == fits


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

    with mirrored(f"{bucket}/one", KIND) as mirror:
        monkeypatch.setattr(Store, "put", put_or_fail)
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
    with fetched(f"{bucket}/mine", only=["*.json"]):
        pass
    (tmp_path / "mine" / "b.json").write_text("22")
    upload(tmp_path / "mine", f"{bucket}/mine")
    with fetched(f"{bucket}/mine", only=["a.json", "b.json"]) as folder:
        assert (folder / "b.json").read_text() == "22"
    # A copy of the same bytes may have another tag, so only what was never asked for is certain.
    assert got[:2] == ["a.json", "b.json"] and "b.json" in got[2:] and "big.bin" not in got


def test_a_copy_that_was_cut_short_is_copied_again(bucket, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_text("weights")
    upload(tmp_path / "mine", f"{bucket}/mine")
    with fetched(f"{bucket}/mine") as folder:
        (folder / "weights").write_text("")
    with fetched(f"{bucket}/mine") as folder:
        assert (folder / "weights").read_text() == "weights"


def put_object(url, data=b""):
    """Whatever the key: as other programs can."""
    import boto3

    name, _, key = url.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=name, Key=key, Body=data)


def test_what_consoles_make_to_show_a_folder_is_no_file(bucket):
    for key in ("run/", "run/members/"):
        put_object(f"{bucket}/{key}")
    put_object(f"{bucket}/run/members/x", b"x")
    with fetched(f"{bucket}/run") as folder:
        assert [file.name for file in folder.rglob("*") if file.is_file()] == ["x"]


@pytest.mark.parametrize("key", ["run/../../../escaped", "run//etc/x", "run/a//b"])
def test_names_that_lead_out_of_a_folder_are_refused(bucket, tmp_path, key):
    put_object(f"{bucket}/{key}", b"x")
    put_object(f"{bucket}/run/main.json", b'{"a": 1}')
    before = sorted(tmp_path.rglob("escaped"))
    with pytest.raises(StorageError), fetched(f"{bucket}/run"):
        pass
    assert sorted(tmp_path.rglob("escaped")) == before == []


def fail(*_):
    raise StorageError("The store is away.")


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("nonet.artifacts.mirror.SECONDS_BEFORE_ATTEMPTS", ())


def test_after_an_outage_the_next_command_knows_which_is_newer(bucket, monkeypatch, no_waiting):
    url, put, is_away = f"{bucket}/one", Store.put, []

    def put_unless_away(self, file, name):
        if is_away:
            raise StorageError("The store is away.")
        put(self, file, name)

    monkeypatch.setattr(Store, "put", put_unless_away)
    with pytest.raises(StorageError), mirrored(url, KIND) as mirror:
        (mirror.folder / "history").write_text("epoch 1")
        mirror.push()
        (mirror.folder / "history").write_text("epoch 100")
        is_away.append(True)
    is_away.clear()
    with mirrored(url, KIND) as mirror:
        assert (mirror.folder / "history").read_text() == "epoch 100"
    with local_copy(f"{url}/history") as file:
        assert file.read_text() == "epoch 100"


def test_what_replaces_a_file_is_there_before_that_is_removed(bucket, monkeypatch, no_waiting):
    url = f"{bucket}/one"
    with mirrored(url, KIND) as mirror:
        (mirror.folder / "state").write_text("state")
        mirror.push()
        (mirror.folder / "state").unlink()
        (mirror.folder / "weights").write_text("weights")
        with monkeypatch.context() as patch, pytest.raises(StorageError):
            patch.setattr(Store, "put", fail)
            mirror.push()
        assert "state" in names_in(url)
        with monkeypatch.context() as patch, pytest.raises(StorageError):  # credentials that may not remove
            patch.setattr(Store, "remove", fail)
            mirror.push()
        assert {"state", "weights"} <= set(names_in(url))
    assert "state" not in names_in(url)


def test_the_only_copy_of_what_cannot_be_copied_is_kept_and_named(bucket, monkeypatch, no_waiting):
    with pytest.raises(StorageError) as caught, working_copy(f"{bucket}/run", only=["**"]) as folder:
        (folder / "weights").write_text("weights")
        monkeypatch.setattr(Store, "put", fail)
    assert (folder / "weights").read_text() == "weights" and str(folder) in caught.value.message


def test_the_only_copy_is_kept_whatever_ended_the_work(bucket, monkeypatch, caplog):
    with pytest.raises(KeyboardInterrupt), working_copy(f"{bucket}/run", only=["**"]) as folder:
        (folder / "weights").write_text("weights")
        monkeypatch.setattr(Store, "put", fail)
        raise KeyboardInterrupt
    assert (folder / "weights").read_text() == "weights" and str(folder) in caplog.text


def test_a_temporary_copy_is_removed_otherwise(bucket):
    with working_copy(f"{bucket}/run", only=["**"]) as folder:
        (folder / "weights").write_text("weights")
    assert names_in(bucket) == ["run/weights"] and not folder.parent.exists()
    with pytest.raises(ZeroDivisionError), working_copy(f"{bucket}/run", only=["**"]) as folder:
        (folder / "more").write_text("x")
        raise ZeroDivisionError
    assert names_in(bucket) == ["run/more", "run/weights"] and not folder.parent.exists()


def test_an_upload_that_the_store_lost_is_no_success(bucket, monkeypatch, no_waiting):
    def lose(*_):
        raise FileNotFoundError("The specified upload does not exist.")

    with pytest.raises((StorageError, FileNotFoundError)), mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
        monkeypatch.setattr(Store, "put", lose)


def test_a_store_that_is_suddenly_empty_removes_nothing_here(bucket):
    with mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
    Store(f"{bucket}/one").remove(Store(f"{bucket}/one").files())
    with pytest.raises(StorageError, match="is empty"), mirrored(f"{bucket}/one", KIND):
        pass
    assert (mirror.folder / "main.json").exists()


def test_why_it_ended_is_not_hidden_by_the_store(bucket, monkeypatch):
    with pytest.raises(DataError, match="Memory"), mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
        monkeypatch.setattr(Store, "put", fail)
        raise DataError("Memory ran out.")


def test_a_store_that_may_only_be_read_is_noticed_before_the_work(bucket, monkeypatch):
    began = []
    monkeypatch.setattr(Store, "put", fail)
    with pytest.raises(StorageError), mirrored(f"{bucket}/one", KIND):
        began.append(True)
    assert not began


def test_another_kind_of_folder_is_refused_before_it_is_copied(bucket, monkeypatch):
    other = FolderKind("other thing", main="other.json", keys={"b"}, hint="Give another.")
    with mirrored(f"{bucket}/one", KIND) as mirror:
        (mirror.folder / "main.json").write_text('{"a": 1}')
    got, get = [], Store.get
    monkeypatch.setattr(Store, "get", lambda self, name, file: got.append(name) or get(self, name, file))
    with pytest.raises(StorageError, match=f"{bucket}/one"), mirrored(f"{bucket}/one", other):
        pass
    assert "main.json" not in got


def test_a_full_disk_is_named_as_such(bucket, tmp_path, monkeypatch):
    async def full(self, name, file, **_):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    put_object(f"{bucket}/one/x", b"x")
    monkeypatch.setattr("s3fs.S3FileSystem._get_file", full)
    s3fs.S3FileSystem.clear_instance_cache()  # each takes its methods when it is made
    with pytest.raises(StorageError, match="full"), fetched(f"{bucket}/one"):
        pass
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_home_folder_that_cannot_be_written_to(bucket, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError) as caught, fetched(f"{bucket}/one"):
        pass
    assert "XDG_CACHE_HOME" in caught.value.hint


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


def test_errors_are_ours(bucket):
    with pytest.raises(FileNotFoundError), local_copy(f"{bucket}/nothing"):
        pass
    assert issubclass(StorageError, NonetError) and Store(bucket).state("nothing") is None
