"""Lookup of host names with a timeout."""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading

import httpcore2


def look_up(host: str, seconds: float) -> list[str]:
    """Look up the addresses of a host, in a separate thread, since the system's lookup has no timeout and ignores Ctrl-C.

    Args:
        host: Name or address of the host.
        seconds: Longest wait.

    Raises:
        ConnectError: unknown name.
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
        raise httpcore2.ConnectTimeout("no answer from the name service") from None
    if isinstance(answer, Exception):
        raise httpcore2.ConnectError(answer) from answer
    return answer
