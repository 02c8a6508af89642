"""Online, prefer-cache, offline: what each asks of the network, over a real server."""

import pytest
from huggingface_hub import HfApi

import registry
from batteries.errors import InputError, IntegrityError, NotFoundError, TransportError
from registry.catalog.reference import Reference
from registry.stores.snapshot import locate, open_snapshot
from registry.transfer.lockfile import Lock
from tests.support.cells import publish, python, tiny
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
ADDRESS = "hf://lab/cells"
CELLS = [tiny(), tiny(version="1.1.0", seed=1), tiny("other", seed=2)]


@pytest.fixture(autouse=True)
def _served(hub):
    for cell in CELLS:
        publish(cell, ADDRESS)
    hub.forget()


def pull(*references, mode="online"):
    return [(cell.name, cell.version) for cell in registry.pull(*references, registry=ADDRESS, mode=mode)]


def test_a_cold_pull_asks_once_for_each_blob_and_four_times_more(hub):
    assert len(pull("high/tiny", "high/other", "high/tiny@1.0.0")) == 3
    assert sum(hub.asked.values()) <= 3 + 4  # revision, index, its signature, manifests
    hub.forget()
    assert len(pull("high/tiny", "high/other")) == 2  # warm, the newest: revision and index
    assert sum(hub.asked.values()) == 2


def test_warm_and_pinned_asks_nothing(hub):
    pull("high/tiny", "high/other")
    lock = Lock.of(locate([Reference.parse("high/tiny")], ADDRESS))
    hub.forget()
    assert pull("high/tiny@1.1.0", "high/other@1.0.0") == [("high/tiny", "1.1.0"), ("high/other", "1.0.0")]
    assert pull(f"high/other@sha256:{CELLS[2].digest}") == [("high/other", "1.0.0")]
    assert registry.pull_locked(lock)[0].version == "1.1.0"
    assert sum(hub.asked.values()) == 0
    with pytest.raises(NotFoundError, match="NO_VERSION"):
        pull("high/tiny@9.0.0")
    assert sum(hub.asked.values()) == 2  # it may be newer than what was seen


def test_prefer_cache_reads_the_index_that_was_seen_and_fetches_what_is_missing(hub):
    open_snapshot(ADDRESS)
    publish(tiny(version="1.2.0", seed=9), ADDRESS)
    hub.forget()
    (cell,) = registry.pull("high/tiny", registry=ADDRESS, mode="prefer-cache")
    assert cell.version == "1.1.0"
    assert cell.origin.age > 0
    assert (cell.origin.source, cell.origin.index_number, cell.origin.verified) == (ADDRESS, 3, True)
    assert hub.asked["file"] > 0
    assert pull("high/tiny") == [("high/tiny", "1.2.0")]


def test_offline_says_what_is_missing(hub):
    with pytest.raises(TransportError) as caught:
        pull("high/tiny", mode="offline")
    assert (caught.value.code, caught.value.exit_code) == ("OFFLINE", 5)
    pull("high/tiny@1.0.0")
    hub.forget()
    with pytest.raises(TransportError) as caught:
        pull("high/tiny", mode="offline")
    assert CELLS[1].digest in str(caught.value.found) or "1.1.0" in str(caught.value.found)
    assert pull("high/tiny@1.0.0", mode="offline") == [("high/tiny", "1.0.0")]
    assert sum(hub.asked.values()) == 0


@pytest.mark.slow
def test_offline_opens_no_socket(hub):
    pull("high/tiny", "high/other")
    code = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(event) if event.startswith("socket.") else None)
import registry
from registry.stores.snapshot import open_snapshot
cells = registry.pull("high/tiny", "high/other", registry=sys.argv[1], mode="offline")
assert len(open_snapshot(sys.argv[1], mode="offline").index.cells) == 2
print(len(cells), opened)
"""
    found = python(code, ADDRESS)
    assert (found.stdout.strip(), found.stderr) == ("2 []", "")


def test_the_mode_of_the_environment(hub, monkeypatch):
    monkeypatch.setenv("BATTERIES_MODE", "offline")
    with pytest.raises(TransportError, match="OFFLINE"):
        registry.pull("high/tiny", registry=ADDRESS)
    monkeypatch.setenv("BATTERIES_MODE", "sometimes")
    with pytest.raises(InputError, match="MODE"):
        registry.pull("high/tiny", registry=ADDRESS)


def test_a_tag_that_moves_is_refused_and_a_branch_may_move(hub):
    first = hub.head("lab/cells").id
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_tag("lab/cells", tag="v1", revision=first)
    assert len(registry.pull("high/tiny", registry=f"{ADDRESS}@v1")) == 1
    publish(tiny(version="1.3.0", seed=7), ADDRESS)
    assert registry.pull("high/tiny", registry=f"{ADDRESS}@main")[0].version == "1.3.0"
    api.delete_tag("lab/cells", tag="v1")
    api.create_tag("lab/cells", tag="v1", revision="main")
    with pytest.raises(IntegrityError) as caught:
        registry.pull("high/tiny", registry=f"{ADDRESS}@v1")
    assert caught.value.code == "TAG_MOVED"


def test_a_history_rewritten_on_the_hub_is_refused(hub):
    open_snapshot(ADDRESS)
    hub.repository("lab/cells").branches["main"] = hub.history("lab/cells")[1].id
    with pytest.raises(IntegrityError) as caught:
        pull("high/tiny")
    assert caught.value.code == "ROLLBACK"
