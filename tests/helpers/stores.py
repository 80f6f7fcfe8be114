"""An object store on this machine."""

import itertools
import os
import shutil

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_server():
    """A server that speaks S3, which this process and those that it starts reach under s3://."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    yield server
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def bucket(s3_server, tmp_path, monkeypatch):
    """Address of an empty bucket; what nonet keeps on this machine is in a folder of the test."""
    import s3fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    name = f"cells-{os.getpid()}-{next(_numbers)}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


def upload(folder, url):
    """Copy a folder to a store, as a user does with another program."""
    import fsspec

    system, root = fsspec.url_to_fs(url)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            system.put_file(str(file), f"{root}/{file.relative_to(folder)}")


def download(url, folder):
    """Copy a folder of a store to a new folder."""
    import fsspec

    system, root = fsspec.url_to_fs(url)
    system.invalidate_cache()
    for path in system.find(root):
        file = folder / path.removeprefix(f"{root}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(file))
    return folder


def names_in(url):
    """Names of all files in a folder of a store, besides the mark of nonet's folders."""
    import fsspec

    system, root = fsspec.url_to_fs(url)
    system.invalidate_cache()
    names = (path.removeprefix(f"{root}/") for path in system.find(root))
    return sorted(name for name in names if not name.endswith(".nonet.json"))


def forget(tmp_path):
    """Remove what nonet keeps on this machine, as if it were another machine."""
    shutil.rmtree(tmp_path / "cache-home", ignore_errors=True)
