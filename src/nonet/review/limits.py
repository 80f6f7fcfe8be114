"""How often somebody may try to log in."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_S = 15 * 60
#: Failures within the window: for one name from one address, and from one address.
MAX_OF_NAME, MAX_OF_ADDRESS = 5, 30
_MAX_REMEMBERED = 10_000


class LoginLimit:
    """Counts failed logins, in memory; the oldest are forgotten first.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def begin(self, name: str, address: str) -> int:
        """Count an attempt as failed, until `succeeded` is called, so that many at once are counted as well.

        Parameters
        ----------
        name : str
            The key of a name.
        address : str
            Of the client.

        Returns
        -------
        int
            0; if there were too many, the seconds to wait, and the attempt does not count.
        """
        now, network = self._clock(), _network(address)
        limits = {(network,): MAX_OF_ADDRESS, (network, name): MAX_OF_NAME}
        with self._lock:
            for key, limit in limits.items():
                times = self._failed.get(key, deque())
                while times and times[0] <= now - WINDOW_S:
                    times.popleft()
                if len(times) >= limit:
                    return math.ceil(times[0] + WINDOW_S - now)
            for key in limits:
                self._failed.setdefault(key, deque()).append(now)
                self._failed.move_to_end(key)
            while len(self._failed) > _MAX_REMEMBERED:
                self._failed.popitem(last=False)
        return 0

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name from an address, as it has logged in."""
        network = _network(address)
        with self._lock:
            self._failed.pop((network, name), None)
            of_address = self._failed.get((network,))
            if of_address:
                of_address.pop()


def _network(address: str) -> str:
    """Return an IPv4 address, or the network of an IPv6 address, of which a household has 2^64."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(getattr(known, "ipv4_mapped", None) or known)
