"""Small and read-only disks, which a test may mount as root, and moments at which a disk is full."""

import contextlib
import subprocess
import tempfile

import pytest


def _mount(*words):
    """Skip the test where this process may not mount, as in most containers."""
    try:
        done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount")
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder, num_bytes):
    """Mount a disk of this size."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder):
    """Let nobody, not even root, write to a folder."""
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class FillsUp:
    """Fills a disk to the last byte as nonet is about to write a file: the first or a later time that it does.

    Parameters
    ----------
    disk : Path
        Of `small_disk`.
    monkeypatch : MonkeyPatch
    """

    def __init__(self, disk, monkeypatch):
        self.disk, self.ballast = disk, disk / "ballast"
        self.name, self.times = "", 0
        real = tempfile.mkstemp

        def mkstemp(**options):
            made = real(**options)
            if options["prefix"] == f".nonet-tmp.{self.name}.":
                self.times -= 1
                if self.times == 0:
                    self._fill()
            return made

        monkeypatch.setattr("nonet.artifacts.run.tempfile.mkstemp", mkstemp)

    def _fill(self):
        with self.ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))

    @contextlib.contextmanager
    def at(self, name, times=1):
        """Fill it at a file of this name; afterwards there is room again."""
        self.name, self.times = name, times
        try:
            yield
        finally:
            assert self.times <= 0, f"{name} was not written"
            self.name = ""
            self.ballast.unlink()
