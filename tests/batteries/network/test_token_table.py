"""Who sees the token, as a table: each case of an answer that leads elsewhere, and the servers that are sent the token then.

All servers record what they are sent. A server that is not named in a row got no token, whether it was asked or not.
"""

import huggingface_hub.constants
import pytest

from batteries.errors import BatteriesError
from batteries.network.credentials import Credentials
from batteries.network.hub_client import HubClient
from batteries.network.transport import Transport
from tests.support.hostile_hub import COMMIT, TOKEN, Hostile
from tests.support.hostile_server import Server

# where the first answer sends a reader; whether it is followed; the paths at which the token was seen
READING = {
    "a path": ("/y", True, {"home/x", "home/y"}),
    "the same origin": ("{home}/y", True, {"home/x", "home/y"}),
    "the same origin, in capitals": ("HTTP://127.0.0.1:{port}/y", True, {"home/x", "home/y"}),
    "another port": ("{other}/y", True, {"home/x"}),
    "another port, without a scheme": ("//127.0.0.1:{other_port}/y", True, {"home/x"}),
    "another name of this machine": ("http://localhost:{port}/y", True, {"home/x"}),
    "another port, with the home as a user's name": ("http://127.0.0.1%3A{port}@127.0.0.1:{other_port}/y", None, {"home/x"}),
    "another port, with the home in its path": ("{other}/{home}/y", True, {"home/x"}),
    "another port, and from there home again": ("{other}/back", True, {"home/x", "home/y"}),
    "another port, encrypted": ("{encrypted}/y", True, {"home/x"}),
    "another machine, unencrypted": ("http://192.0.2.1/y", False, {"home/x"}),
    "a file": ("file:///y", False, {"home/x"}),
}


@pytest.mark.parametrize("case", READING)
def test_the_token_of_a_reader(case, trusted):
    location, followed, expected = READING[case]

    def at_home(talk):
        talk.redirect(location.format(**names)) if talk.path == "/x" else talk.answer(b"here")

    def elsewhere(talk):
        talk.redirect(f"{home.url}/y") if talk.path == "/back" else talk.answer(b"here")

    with Server(at_home) as home, Server(elsewhere) as other, Server(elsewhere, tls=trusted) as encrypted:
        names = {"home": home.url, "port": home.port, "other": other.url, "other_port": other.port, "encrypted": encrypted.url}
        with Transport(origin=home.url, token=TOKEN) as transport:
            arrived = followed_to_the_end(lambda: transport.get("/x", limit=4))
        seen = {
            f"{name}{talk.path}"
            for name, server in (("home", home), ("other", other), ("encrypted", encrypted))
            for talk in server.talks
            if TOKEN in str(talk.headers)
        }
    assert seen == expected
    assert followed in (arrived, None)


# what the Hub answers to a writer, and where it sends it; the kinds of paths at which the token was seen
WRITING = {
    "all at home": ("well", None, {"home/api", "home/a", "home/verify"}),
    "large files at another port": ("well", "{other}", {"home/api", "home/a"}),
    "large files at another name of this machine": ("well", "http://localhost:{other_port}", {"home/api", "home/a"}),
    "large files at a user's name that is the home's": (
        "well",
        "http://127.0.0.1%3A{port}@127.0.0.1:{other_port}",
        {"home/api", "home/a"},
    ),
    "large files on another machine, unencrypted": ("well", "http://192.0.2.1", {"home/api", "home/a"}),
    "a redirect to another port": ("redirect", "{other}", {"home/api", "home/a"}),
    "a redirect to another machine, unencrypted": ("redirect", "http://192.0.2.1", {"home/api"}),
}


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of huggingface_hub's own uploads
@pytest.mark.parametrize("case", WRITING)
def test_the_token_of_a_writer(case, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    manner, to, expected = WRITING[case]
    home, other = Hostile(manner), Hostile()
    names = {"other": other.url, "other_port": other.server_port, "port": home.server_port}
    home.elsewhere = None if to is None else to.format(**names)
    client = HubClient(
        "a/b", endpoint=home.url, credentials=Credentials(TOKEN, "a test", "leave it out"), where="hf://a/b", patience=20.0
    )
    followed_to_the_end(lambda: client.commit({"x.bin": b"x" * 100}, revision="main", parent=COMMIT, message="m"))
    for server in (home, other):
        server.shutdown()
        server.server_close()
    seen = {
        f"{name}/{path.split('/')[1].removesuffix('.git')}"
        for name, server in (("home", home), ("other", other))
        for path, token in server.seen
        if token is not None and TOKEN in token
    }
    assert seen == expected


def followed_to_the_end(call):
    """Whether a call ends well, rather than with an error of this package."""
    try:
        call()
    except BatteriesError:
        return False
    return True
