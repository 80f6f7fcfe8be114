"""Where the page listens: the port, the names of the host, and encryption."""

import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from nonet.artifacts.storage import storage_error
from nonet.errors import DataError

#: Names of this machine to itself.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    host : str
        An address or a name of this machine.
    port : int
        0 takes any free one.

    Returns
    -------
    socket.socket

    Raises
    ------
    DataError
        If the port cannot be used.
    """
    if not 0 <= port <= 65535:
        raise DataError(f"{port} is not a port.", hint="Give `port` a number from 1024 to 65535, or 0.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # before the address is said, so that a browser that is quick waits
    except OSError as error:
        listener.close()
        if port:
            raise DataError(
                f"Port {port} of {host} cannot be used: {error.strerror or error}.",
                hint="Another page may be running there. Give another `port`, or 0 for any free one.",
            ) from error
        raise storage_error(error, host) from error
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def host_names(listener: socket.socket, host: str, more: Sequence[str]) -> set[str]:
    """Return the names under which the page may be called; the address of each connection counts besides them.

    Parameters
    ----------
    listener : socket.socket
    host : str
        What was listened on.
    more : sequence of str
        Further names.

    Returns
    -------
    set of str
        Lower case, without port. On all addresses of this machine, its own names are among them.
    """
    names = LOOPBACK | {host.lower(), *(name.lower() for name in more)}
    if ipaddress.ip_address(listener.getsockname()[0]).is_unspecified:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return set(names)


def require_host_names(names: Sequence[str]) -> None:
    """Raise DataError if one of these names has more than a name, such as a port."""
    for name in names:
        if not name or any(one in ":/@*" or one.isspace() for one in name):
            raise DataError(
                f'"{name}" is not the name of a host.',
                hint="Give `allow_host` names as in an address, without https:// and port, such as cells.example.org.",
            )


def require_certificate(certificate: str | Path | None, key: str | Path | None) -> dict[str, str]:
    """Check a certificate and its key, and return them as uvicorn takes them.

    Parameters
    ----------
    certificate, key : str, path or None
        PEM files. None for both: no encryption.

    Returns
    -------
    dict of str to str

    Raises
    ------
    DataError
        If one is missing, is not a PEM file, is encrypted, or they do not belong together.
    StorageError
        If one cannot be read.
    """
    if certificate is None and key is None:
        return {}
    if certificate is None or key is None:
        missing = "certificate" if certificate is None else "key"
        raise DataError(f"`{missing}` is missing.", hint="Encryption needs both `certificate` and `key`.")
    first, second = Path(certificate).expanduser(), Path(key).expanduser()
    for file in (first, second):
        if not file.is_file():
            raise DataError(f"{file} is not a file.", hint="Give `certificate` and `key` PEM files.")
        try:
            file.open("rb").close()
        except OSError as error:
            raise storage_error(error, file) from error
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(first, second, _no_password)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise DataError(f"{second} is not the key of {first}.", hint="Give the key that belongs to it.") from error
        raise DataError(
            f"{first} and {second} cannot be used as certificate and key: {error}.",
            hint="Both must be PEM files; the key must not be encrypted.",
        ) from error
    return {"ssl_certfile": str(first), "ssl_keyfile": str(second)}


def _no_password() -> str:
    raise ValueError("the key is encrypted")
