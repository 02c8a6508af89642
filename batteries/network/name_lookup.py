"""Names of machines on the network, looked up within a time."""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading

import httpcore2


def look_up(host: str, seconds: float) -> list[str]:
    """Addresses of a host. The system's own look-up knows no timeout and no Ctrl-C, so another thread waits for it.

    Args:
        host: A name, or an address already.
        seconds: To wait.

    Raises:
        ConnectError: no such name.
        ConnectTimeout: no answer in that time.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put([str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)])
        except (OSError, ValueError) as error:
            found.put(error)

    threading.Thread(target=ask, name="batteries-look-up", daemon=True).start()
    try:
        answer = found.get(timeout=seconds)
    except queue.Empty:
        raise httpcore2.ConnectTimeout("the name service does not answer") from None
    if isinstance(answer, Exception):
        raise httpcore2.ConnectError(answer) from answer
    return answer
