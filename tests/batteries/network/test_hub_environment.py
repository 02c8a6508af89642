"""The environment of the Hub's clients: each variable is honoured, or listed as not."""

import re
import socket
from pathlib import Path

import huggingface_hub
import pytest

import registry
from batteries import Cell, HubRepository
from batteries.errors import InputError, TransportError
from batteries.network.hub_environment import is_set, offline_variable
from batteries.network.transport import Limits, Transport
from registry import HubStore, pull
from registry.cli import main
from registry.cli.terminal.progress import TransferBar
from registry.stores import settings
from tests.compatibility import refused, works
from tests.support import hostile_server
from tests.support.cells import publish, python, tiny
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
ROOT = Path(__file__).parents[3]
REPO = "local/cells"
ADDRESS = f"hf://{REPO}"
READ = re.compile(r"""(?:environ(?:\.get\(|\[)|getenv\()\s*"([A-Za-z_][A-Za-z0-9_]*)\"""")
# of its page "Environment variables", where the client's library for Xet reads them, or the library `datasets`
DOCUMENTED = {"HF_XET_HIGH_PERFORMANCE", "HF_XET_CHUNK_CACHE_SIZE_BYTES", "HUGGINGFACE_HUB_VERBOSITY", "HF_DATASETS_OFFLINE"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "BATTERIES_MODE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sockets(monkeypatch):
    """Every socket that is opened from now on."""
    opened = []
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda own, address: (opened.append(address), connect(own, address))[1])
    return opened


def raised(attempt):
    """Raise the error that a finding holds."""
    if error := attempt():
        raise error


def listed():
    """The variables of the table in docs/hub.md."""
    rows = re.findall(r"^\| (`[^|]*`) \| (?:yes|no) \| (.+) \|$", (ROOT / "docs" / "hub.md").read_text(), re.MULTILINE)
    return {name for names, reason in rows for name in re.findall(r"`([^`]+)`", names) if reason}


def test_every_variable_that_the_client_reads_is_in_the_table():
    sources = Path(huggingface_hub.__file__).parent.rglob("*.py")
    read = {name for source in sources for name in READ.findall(source.read_text())}
    assert {"HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_XET_CACHE", "NO_COLOR"} <= read
    known = listed()
    assert {name for name in read | DOCUMENTED if name not in known and not name.startswith("HF_XET_")} == set()
    assert "HF_XET_*" in known


WORDS = {"1": True, "on": True, "Yes": True, "TRUE": True, "0": False, "": False, "false": False, " 1": False, "y": False}


@pytest.mark.parametrize(("word", "yes"), WORDS.items())
def test_the_words_for_yes_are_the_clients(monkeypatch, word, yes):
    monkeypatch.setenv("HF_DEBUG", word)
    assert is_set("HF_DEBUG") == yes
    assert huggingface_hub.constants._is_true(word) == yes


@pytest.mark.parametrize(
    ("first", "second", "variable"),
    [("1", None, "HF_HUB_OFFLINE"), (None, "1", "TRANSFORMERS_OFFLINE"), ("", "yes", "TRANSFORMERS_OFFLINE"), ("0", "1", None)],
)
def test_which_variable_forbids_the_network(monkeypatch, first, second, variable):
    for name, value in (("HF_HUB_OFFLINE", first), ("TRANSFORMERS_OFFLINE", second)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert offline_variable() == variable
    assert settings.mode() == ("online" if variable is None else "offline")


@works("Hub and locks", "HF_HUB_OFFLINE with a registry that was read before", note="from the cache, no socket")
@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_serves_what_was_read_before_and_opens_no_socket(hub, monkeypatch, sockets, variable, capsys):
    publish(tiny(), ADDRESS)
    pull("high/tiny", registry=ADDRESS)
    monkeypatch.setenv(variable, "1")
    sockets.clear()
    assert pull("high/tiny", registry=ADDRESS)[0].digest == tiny().digest
    assert pull("high/tiny", registry=ADDRESS, mode="online")[0].digest == tiny().digest
    assert main(["pull", "high/tiny", "--registry", ADDRESS, "--mode", "online"]) == 0
    assert main(["list", "--registry", ADDRESS]) == 0
    assert sockets == []
    monkeypatch.delenv(variable)
    assert HubStore(ADDRESS, writable=False).read_index()
    assert sockets
    capsys.readouterr()


@refused("Hub and locks", "HF_HUB_OFFLINE and what is not in the cache", "OFFLINE", note="the error names the variable")
@pytest.mark.parametrize(
    "act",
    [
        lambda: pull("high/tiny", registry=ADDRESS),
        lambda: registry.open_store(ADDRESS).read_index(),
        lambda: registry.verify_store(HubStore(ADDRESS))[0].error,
        lambda: registry.verify("high/tiny", registry=ADDRESS)[0].error,
        lambda: publish(tiny("other"), ADDRESS),
        lambda: registry.yank("high/tiny@1.0.0", "x", ADDRESS),
        lambda: registry.mirror(ADDRESS, HubStore("hf://local/other")),
        lambda: HubRepository(REPO).create(),
        lambda: HubRepository(REPO).push({"x": b""}, message="x"),
        lambda: HubRepository(REPO).read("x", commit="0" * 40, limit=1),
        lambda: Cell.from_pretrained(REPO),
        lambda: tiny().push_to_hub(REPO),
    ],
)
def test_offline_is_named_and_opens_no_socket(hub, monkeypatch, sockets, act):
    store = HubStore(ADDRESS)  # made before, used after
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_OIDC_RESOURCE", REPO)  # whose token would have to be fetched
    for attempt in (act, store.read_index):
        with pytest.raises(TransportError, match="HF_HUB_OFFLINE") as caught:
            raised(attempt)
        assert (caught.value.code, caught.value.exit_code) == ("OFFLINE", 5)
    assert sockets == []
    assert hub.asked == {}


@pytest.mark.parametrize(
    "order", ["import registry, os; os.environ.update({})", "import os; os.environ.update({}); import registry"]
)
def test_offline_before_the_import_and_after(hub, order):
    code = order.format("HF_HUB_OFFLINE='1'") + f"\nprint(registry.verify('low/x', registry='{ADDRESS}')[0].error)"
    assert "HF_HUB_OFFLINE" in python(code).stdout
    assert hub.asked == {}


def test_folders_are_read_offline(tmp_path, monkeypatch):
    publish(tiny(), tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert len(pull("high/tiny", registry=tmp_path)) == 1


@works("Hub and locks", "HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT", note="seconds to connect, and without a byte")
@pytest.mark.slow
def test_timeouts(monkeypatch):
    with hostile_server.Server(lambda talk: talk.wait()) as server:
        for name, read in (
            ("HF_HUB_ETAG_TIMEOUT", lambda one: one.resolve()),
            ("HF_HUB_DOWNLOAD_TIMEOUT", lambda one: one.read("x", commit="0" * 40, limit=9)),
        ):
            monkeypatch.setenv(name, "1")
            one = HubRepository(REPO, endpoint=server.url, limits=Limits(attempts=1))
            with pytest.raises(TransportError, match="no data from the server for 1 s") as caught:
                read(one)
            assert caught.value.code == "STALLED"


@refused("Hub and locks", "HF_HUB_DOWNLOAD_TIMEOUT that is no number", "ENVIRONMENT")
@pytest.mark.parametrize("text", ["soon", "-1", "1.5", "1e3", "\u0661", "99999999"])
@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
def test_a_timeout_that_is_none(hub, monkeypatch, name, text):
    publish(tiny(), ADDRESS)
    monkeypatch.setenv(name, text)
    with pytest.raises(InputError) as caught:
        HubStore(ADDRESS).read_index()
    assert (caught.value.code, caught.value.where) == ("ENVIRONMENT", name)
    for default in ("", "0"):
        monkeypatch.setenv(name, default)
        assert HubStore(ADDRESS).read_index()


@works("Hub and locks", "HF_HUB_USER_AGENT_ORIGIN")
def test_the_origin_in_the_user_agent(monkeypatch):
    monkeypatch.setenv("HF_HUB_USER_AGENT_ORIGIN", "ours")
    with hostile_server.Server(lambda talk: talk.answer(b"{}")) as server:
        HubRepository(REPO, endpoint=server.url).read("x", commit="0" * 40, limit=9)
        assert re.fullmatch(r"svae-batteries/\S+; origin/ours", server.talks[0].headers["user-agent"])
        monkeypatch.setenv("HF_HUB_USER_AGENT_ORIGIN", "a\r\nX: y")
        with pytest.raises(InputError, match="HF_HUB_USER_AGENT_ORIGIN"):
            HubRepository(REPO, endpoint=server.url).read("x", commit="0" * 40, limit=9)
    assert Transport(origin="https://example.com").requests == 0


@works("Hub and locks", "HF_HUB_DISABLE_PROGRESS_BARS")
def test_no_progress_bars(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    for value, hidden in (("", False), ("1", True)):
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", value)
        assert TransferBar()._progress.disable == hidden


@works("Hub and locks", "HF_ENDPOINT set after the import")
def test_the_endpoint_is_looked_up_at_each_call(hub, monkeypatch):
    publish(tiny(), ADDRESS)
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    assert HubRepository(REPO).endpoint == hub.url
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert HubRepository(REPO).endpoint == "https://huggingface.co"
