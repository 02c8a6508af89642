"""Calls to a server that plays a part, and the errors that they end in."""

import contextlib
import random
import socket
import time

import pytest

from batteries.errors import TransportError
from batteries.network.transport import Limits, Transport
from tests.support.hostile_server import Server

BODY = random.Random(0).randbytes(256 * 1024)
PATIENT = Limits(deadline=20.0)
QUICK = Limits(deadline=0.5)
ONCE = Limits(deadline=2.0, attempts=1)
ONCE_MORE = Limits(deadline=20.0, attempts=2)
TOKEN = "hf_secret"


@contextlib.contextmanager
def served(play, limits=PATIENT, *, tls=None, token=None):
    """A server and a transport to it."""
    with Server(play, tls=tls) as server, Transport(origin=server.url, token=token, limits=limits) as transport:
        yield server, transport


@contextlib.contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def refused(play, limits=QUICK, *, size=1000, kind=TransportError, path="/x?signature=secret", **server):
    """The error of one call, which ended in time and says no secret."""
    with (
        served(play, limits, token=TOKEN, **server) as (_, transport),
        within(limits.deadline + 1),
        pytest.raises(kind) as caught,
    ):
        transport.get(path, limit=size)
    assert caught.value.where is not None
    assert "secret" not in str(caught.value)
    return caught.value


def flood(talk, data):
    while True:
        talk.send(data)


def silent_names(monkeypatch, release):
    """A name service that knows addresses, and says nothing about names until it is released."""
    look_up = socket.getaddrinfo

    def stand_in(host, *rest, **more):
        if host == "localhost":
            release.wait(30)
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", stand_in)
