"""A Hub that loses answers, refuses, lies and goes on for ever."""

import threading

import pytest

import registry
from batteries.errors import (
    BatteriesError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    PolicyError,
    TransportError,
)
from batteries.network.hub_repository import HubRepository
from batteries.network.limits import Limits
from registry import pull
from registry.catalog import store_keys
from registry.stores.hub import HubStore
from registry.stores.snapshot import open_snapshot
from registry.transfer.mirror import mirror
from tests.support.cells import DAMAGED, cells, filled, publish, tiny, tree
from tests.support.hubserver import QUIET
from tests.support.soak import many

pytestmark = pytest.mark.filterwarnings(QUIET)
REPO = "local/cells"
ADDRESS = f"hf://{REPO}"
HASTY = Limits(attempts=2, pause=0.01, deadline=5)


def test_a_lost_answer_to_a_commit_is_a_success(hub):
    hub.faults.add(kind="commit", nth={1}, lost=True)
    assert publish(tiny(), ADDRESS).new
    assert (len(hub.history(REPO)), hub.asked["commit"]) == (2, 1)


def test_a_lost_answer_that_nobody_can_ask_after(hub):
    hub.faults.add(kind="commit", nth={1}, lost=True)
    hub.faults.add(kind="info", nth={5, 6}, status=503)  # the look after the commit, tried twice
    store = HubStore(ADDRESS, limits=HASTY)
    with pytest.raises(TransportError) as caught:
        publish(tiny(), store)
    assert caught.value.retryable
    assert not publish(tiny(), store).new
    assert len(hub.history(REPO)) == 2


def test_a_lost_answer_under_somebody_elses_commit(hub):
    publish(tiny("first"), ADDRESS)
    hub.faults.add(kind="commit", nth={1}, lost=True)
    late = threading.Event()

    class Late(HubStore):
        def _look(self):
            if hub.asked["commit"] == 2 and not late.is_set():
                late.set()
                publish(tiny("theirs", seed=2), ADDRESS)
            return super()._look()

    assert not publish(tiny("ours", seed=1), Late(ADDRESS)).new  # the index on top has it already
    assert set(open_snapshot(ADDRESS).index.cells) == {"high/first", "high/ours", "high/theirs"}
    assert len(hub.history(REPO)) == 4


@pytest.mark.parametrize(("status", "code"), [(500, "UNAVAILABLE"), (429, "RATE_LIMITED")])
def test_a_commit_that_was_not_made_is_retryable(hub, status, code):
    hub.faults.add(kind="commit", nth={1}, status=status)
    store = HubStore(ADDRESS)
    with pytest.raises(TransportError) as caught:
        publish(tiny(), store)
    assert (caught.value.code, caught.value.retryable) == (code, True)
    assert publish(tiny(), store).new
    assert len(hub.history(REPO)) == 2


@pytest.mark.slow
def test_a_commit_that_hangs_ends_with_our_patience(hub):
    hub.faults.add(kind="commit", nth={1}, lost=True, stall=0)
    hub.faults.add(kind="yaml", nth={1}, stall=60)
    with pytest.raises(TransportError) as caught:
        publish(tiny(), HubStore(ADDRESS, patience=0.5))
    assert (caught.value.code, caught.value.retryable) == ("DEADLINE", True)
    assert publish(tiny(), ADDRESS).new


@pytest.mark.parametrize("status", [400, 402, 413, 422])
def test_a_commit_that_is_refused_is_final(hub, status):
    hub.faults.add(kind="commit", status=status)
    with pytest.raises(PolicyError) as caught:
        publish(tiny(), ADDRESS)
    assert (caught.value.code, caught.value.retryable) == ("REFUSED", False)


def test_a_repository_that_ignores_weights_is_refused(hub):
    hub.write(REPO, {".gitignore": b"blobs/\n"})
    with pytest.raises(PolicyError) as caught:
        publish(tiny(), ADDRESS)
    assert caught.value.code == "IGNORED"
    assert len(hub.history(REPO)) == 2


def test_who_may_not(hub, monkeypatch):
    publish(tiny(), ADDRESS)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for attempt in (lambda: pull("high/tiny", registry=ADDRESS), lambda: publish(tiny("other"), ADDRESS)):
        with pytest.raises(PolicyError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == ("TOKEN_REFUSED", 6)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    assert len(pull("high/tiny", registry=HubStore(ADDRESS, writable=False))) == 1
    with pytest.raises(PolicyError, match="DENIED"):
        publish(tiny("other"), ADDRESS)


def test_a_repository_that_is_slow_to_appear_is_retryable(hub):
    hub.faults.add(kind="info", nth=range(1, 5), status=404, headers={"X-Error-Code": "RepoNotFound"})
    with pytest.raises(TransportError) as caught:
        publish(tiny(), ADDRESS)
    assert (caught.value.code, caught.value.retryable) == ("UNAVAILABLE", True)
    assert publish(tiny(), ADDRESS).new
    assert len(hub.history(REPO)) == 2


def test_what_is_not_there(hub):
    for address, code in ((ADDRESS, "NO_REGISTRY"), (f"{ADDRESS}@v1", "NO_REGISTRY")):
        with pytest.raises(NotFoundError) as caught:
            open_snapshot(address)
        assert (caught.value.code, caught.value.exit_code) == (code, 3)
    hub.write(REPO, {"notes.txt": b""})
    for revision in ("v1", "refs/pr/1", "0123abc"):
        with pytest.raises(NotFoundError, match="NO_REVISION"):
            open_snapshot(f"{ADDRESS}@{revision}")
    with pytest.raises(NotFoundError, match="NO_INDEX"):
        open_snapshot(ADDRESS)
    with pytest.raises(PolicyError, match="READ_ONLY"):
        publish(tiny(), "hf://local/none@dev")


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://cells",
        "hf://local/cells/more",
        "hf://../cells",
        "hf://local/..",
        "hf://local/cells.git",
        "hf://local/a--b",
        "hf://local/-x",
        "hf://local/c\u00e9lls",
        "hf://local/cells?x",
        "hf://local/cells\n",
        "hf://local/" + "x" * 96,
        "hf://local/cells@",
        "hf://local/cells@a b",
        "hf://local/cells@../x",
        "hf://local/cells@a//b",
        "hf://local/cells@a/.b",
        "hf://local/cells@a.lock",
        "hf://local/cells@-x",
        "hf://local/cells@v1@v2",
        "hf://user:secret@local/cells",
        "hf://local/cells@" + "x" * 256,
    ],
)
def test_an_address_that_is_none_asks_nobody(hub, address):
    for writable in (False, True):
        with pytest.raises(InputError) as caught:
            registry.open_store(address, writable=writable)
        assert caught.value.code in ("BAD_ADDRESS", "BAD_REPOSITORY", "BAD_REVISION")
    assert hub.asked == {}


@pytest.mark.parametrize(
    ("endpoint", "kind", "code"),
    [
        ("http://example.org", PolicyError, "INSECURE"),
        ("https://user:secret@example.org", InputError, "BAD_ENDPOINT"),
        ("https://example.org/?x", InputError, "BAD_ENDPOINT"),
        ("ftp://example.org", InputError, "BAD_URL"),
        ("nonsense", InputError, "BAD_URL"),
    ],
)
def test_an_endpoint_that_cannot_be_trusted(endpoint, kind, code):
    with pytest.raises(kind) as caught:
        HubRepository(REPO, endpoint=endpoint, token="hf_x")
    assert caught.value.code == code


@pytest.mark.slow
def test_every_flipped_byte_of_an_answer_is_an_error_or_right(hub, elsewhere):
    cell = tiny()
    publish(cell, ADDRESS)
    files = hub.head(REPO).files
    size = {path: len(data) for path, data in files.items()}
    for path in ("index.json", store_keys.blob(cell.digest), "high/tiny/1.0.0.json"):
        for n in range(0, size[path], many(size[path] // 12, 1)):
            hub.faults.clear()
            hub.faults.add(kind="file", path=path, flip=n)
            elsewhere()
            with pytest.raises((IntegrityError, FormatError), match=f"{DAMAGED}|DIGEST_MISMATCH"):
                pull("high/tiny", registry=ADDRESS)
    hub.faults.clear()
    hub.faults.add(kind="file", path="blobs/", nth={1}, flip=7)  # a bad one is asked for again
    elsewhere()
    assert pull("high/tiny", registry=ADDRESS)[0].to_bytes() == cell.to_bytes()


@pytest.mark.slow
def test_every_flipped_byte_about_a_repository_is_an_error_or_an_answer(hub):
    publish(tiny(), ADDRESS)
    commit = hub.head(REPO).id
    hub.repository(REPO).tags["v1"] = commit
    asks = [
        (HubRepository(REPO), "info", lambda repository: repository.resolve()),
        (HubRepository(REPO, revision="v1"), "refs", lambda repository: repository.resolve()),
        (HubRepository(REPO), "tree", lambda repository: repository.tree(commit)),
    ]
    for repository, kind, ask in asks:
        ask(repository)
        for n in range(0, 2000, many(17, 1)):
            hub.faults.clear()
            hub.faults.add(kind=kind, flip=n)
            try:
                ask(repository)
            except BatteriesError as error:
                assert error.exit_code in (3, 4)  # noqa: PT017


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"sha":1}', b'{"sha":"main"}', b'{"sha":"' + b"A" * 40 + b'"}', b"[" * 99, b"<html>"]
)
def test_an_answer_that_is_not_the_hubs(hub, monkeypatch, body):
    publish(tiny(), ADDRESS)
    hub.repository(REPO).tags["v1"] = hub.head(REPO).id
    answer = hub.answer

    def nonsense(*request):
        reply = answer(*request)
        reply.body = body
        return reply

    monkeypatch.setattr(hub, "answer", nonsense)
    for repository in (HubRepository(REPO), HubRepository(REPO, revision="v1")):
        with pytest.raises(FormatError, match=r"JSON|HUB_ANSWER|TOO_DEEP|HTML_PAGE"):
            repository.resolve()
    if body != b"[]":
        with pytest.raises(FormatError, match=r"JSON|HUB_ANSWER|TOO_DEEP|HTML_PAGE"):
            HubRepository(REPO).tree(hub.head(REPO).id)


def test_names_from_the_server_lead_nowhere(hub, elsewhere, monkeypatch, tmp_path):
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "home"))
    publish(tiny(), ADDRESS)
    for header in ("ETag", "X-Linked-ETag", "X-Repo-Commit", "Content-Disposition"):
        hub.faults.add(kind="file", headers={header: '"../../../escaped"'})
        assert len(pull("high/tiny", registry=ADDRESS)) == 1
        hub.faults.clear()
    hub.write(REPO, {"../escaped": b"x", "blobs/../../escaped": b"x", "/etc/escaped": b"x"})
    assert len(registry.open_store(ADDRESS).keys("")) == 2
    assert {name.split("/")[0] for name in tree(tmp_path)} <= {"home"}
    assert not any("escaped" in name for name in tree(tmp_path))


@pytest.mark.slow
def test_a_list_without_end_ends(hub):
    publish(tiny(), ADDRESS)
    hub.forget()
    hub.faults.add(kind="tree", headers={"Link": '<http://198.51.100.1/api?cursor=0>; rel="next"'})
    with pytest.raises(TransportError) as caught:
        registry.open_store(ADDRESS).keys()
    assert (caught.value.code, caught.value.retryable) == ("LIMIT", False)
    assert hub.asked["tree"] <= 400
    hub.faults.clear()
    hub.faults.add(kind="tree", headers={"Link": f'<{hub.url}/api?cursor=0>; rel="next"'}, stall=0.2)
    with pytest.raises(TransportError) as caught:
        HubStore(ADDRESS, writable=False, limits=Limits(deadline=0.5)).keys()
    assert (caught.value.code, caught.value.retryable) == ("DEADLINE", True)


@pytest.mark.parametrize(
    "link", ["<http://[>; rel=next", "<?cursor=>; rel=next", "<?cursor=1>; rel=prev", "nonsense", "<" * 9000]
)
def test_a_link_that_is_none_is_not_followed(hub, link):
    publish(tiny(), ADDRESS)
    hub.faults.add(kind="tree", headers={"Link": link})
    assert len(registry.open_store(ADDRESS).keys()) == 2


def test_a_list_in_pages_is_whole(hub):
    hub.page = 2
    mirror(filled(*cells(4)), ADDRESS)
    assert len(registry.open_store(ADDRESS).keys()) == 8


@pytest.mark.slow
def test_an_answer_larger_than_promised_is_cut_short(hub, elsewhere):
    publish(tiny(), ADDRESS)
    for path in ("index.json", "blobs/"):
        hub.faults.clear()
        hub.faults.add(kind="file", path=path, endless=True)
        elsewhere()
        with pytest.raises((IntegrityError, FormatError, TransportError), match=r"TOO_LARGE|SIZE_MISMATCH"):
            pull("high/tiny", registry=HubStore(ADDRESS, limits=HASTY))
