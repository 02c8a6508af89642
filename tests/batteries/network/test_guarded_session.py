"""Writing to a hostile Hub with the real client: bounded answers, and a token that goes to its own host alone."""

import sys
import threading
import time
import traceback

import httpx2
import huggingface_hub
import huggingface_hub.constants
import pytest

from batteries.errors import BatteriesError, PolicyError, TransportError
from batteries.network import guarded_session
from batteries.network.credentials import Credentials
from batteries.network.hub_client import HubClient
from tests.support.hostile_hub import COMMIT, TOKEN, Hostile

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of huggingface_hub's own uploads


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    running = []

    def start(manner="well", elsewhere=None):
        running.append(Hostile(manner, elsewhere))
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def client(server, patience=20.0):
    credentials = Credentials(TOKEN, "a test", "leave it out")
    return HubClient("a/b", endpoint=server.url, credentials=credentials, where="hf://a/b", patience=patience)


def commit(server, **more):
    return client(server, **more).commit({"x.bin": b"x" * 100}, revision="main", parent="b" * 40, message="m")


def test_a_commit_with_large_files_goes_through(hub):
    server = hub()
    assert commit(server) == COMMIT
    assert ("/verify", f"Bearer {TOKEN}") in server.seen
    assert guarded_session._guards == []


def test_a_commit_never_goes_to_xet(hub, monkeypatch, caplog):
    pytest.importorskip("hf_xet")
    monkeypatch.delenv("HF_HUB_DISABLE_XET")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setitem(sys.modules, "hf_xet", None)  # importing it raises
    server = hub()
    assert commit(server) == COMMIT
    assert [path for path, _ in server.seen if "xet" in path] == []
    assert ("/verify", f"Bearer {TOKEN}") in server.seen
    assert caplog.records == []


@pytest.mark.parametrize(("manner", "words"), [("endless", "answer too large"), ("compressed", "compressed answer")])
@pytest.mark.parametrize("call", ["commit", "create"])
def test_an_answer_has_bounds(hub, manner, words, call):
    server = hub(manner)
    with pytest.raises(TransportError, match=words) as caught:
        commit(server) if call == "commit" else client(server).create(private=None)
    assert caught.value.code == "LIMIT"


def test_a_slow_answer_ends_with_the_call_and_leaves_no_thread(hub):
    before = time.monotonic()
    with pytest.raises(TransportError) as caught:
        client(hub("slow"), patience=1.0).create(private=None)
    assert caught.value.code == "DEADLINE"
    assert time.monotonic() - before < 10
    ends = time.monotonic() + 10
    while any(thread.name == "batteries-hub" for thread in threading.enumerate()):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_the_token_goes_to_no_other_address_of_an_answer(hub):
    other = hub()
    server = hub(elsewhere=other.url)
    assert commit(server) == COMMIT
    assert {path for path, _ in other.seen} == {"/upload", "/verify"}
    assert {token for _, token in other.seen} == {None}
    assert f"Bearer {TOKEN}" in {token for _, token in server.seen}


def test_the_token_follows_no_redirect_to_another_port(hub):
    other = hub()
    client(hub("redirect", elsewhere=other.url)).create(private=None)
    assert {token for _, token in other.seen} == {None}


@pytest.mark.parametrize("manner", ["well", "redirect"])
def test_nothing_goes_out_unencrypted(hub, manner):
    server = hub(manner, elsewhere="http://hub.example.invalid")
    with pytest.raises(PolicyError) as caught:
        commit(server)
    assert caught.value.code == "INSECURE"
    assert caught.value.where.startswith("http://hub.example.invalid/")


def test_a_token_that_the_server_repeats_is_in_no_error(hub):
    with pytest.raises(BatteriesError) as caught:
        commit(hub("echo"))
    told = "".join(traceback.format_exception(caught.value))
    assert "(token)" in str(caught.value)
    assert TOKEN not in told + repr(caught.value)


def test_other_requests_of_the_session_are_left_alone(hub):
    """The session is the process's: a reading of the user's beside a call of this package is as it was."""
    other = hub("compressed")
    with guarded_session.guarded("https://hub.example", TOKEN, 5.0):
        session = huggingface_hub.get_session()
        assert len(session.get(other.url).content) == 5 * 10**7
        with pytest.raises(TransportError, match="compressed"):
            session.post(other.url)
    assert isinstance(session, httpx2.Client)
    assert len(session.post(other.url).content) == 5 * 10**7
    assert len(session.event_hooks["response"]) == 1
