"""Tokens: where one is found, where it goes, and what a refusal says of it."""

from pathlib import Path

import huggingface_hub
import pytest

from batteries import Cell, HubRepository
from batteries.errors import InputError, NotFoundError, PolicyError, StoreWarning
from batteries.network.credentials import find
from batteries.network.hub_client import typed
from registry import HubStore, pull
from registry.cli import main
from tests.compatibility import refused, works
from tests.support import hostile_server
from tests.support.cells import publish, tiny
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
REPO = "local/cells"
ADDRESS = f"hf://{REPO}"
SECRET = "hf_expired"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))


@pytest.fixture
def public(hub, monkeypatch):
    """A public repository, and a user without a token."""
    monkeypatch.delenv("HF_TOKEN")
    publish(tiny(), HubStore(ADDRESS, token=hub.token))
    return hub


def found(given=None):
    return find(given, lambda look: typed(look, "x"))


def test_where_a_token_is_found(monkeypatch, tmp_path):
    assert found() is None
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN_PATH")
    (tmp_path / "token").write_text("hf_home\n")
    assert (found().token, found().source) == ("hf_home", f"the file {tmp_path / 'token'}")
    (tmp_path / "other").write_text(" hf_path\r\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "other"))
    assert found().token == "hf_path"
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_old")
    assert (found().token, found().source) == ("hf_old", "the environment variable HUGGING_FACE_HUB_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_new\n")
    assert (found().token, found().source) == ("hf_new", "the environment variable HF_TOKEN")
    assert (found(" hf_given ").token, found("hf_given").source) == ("hf_given", "the argument token")
    monkeypatch.setenv("HF_TOKEN", "  ")
    assert found().token == "hf_path"  # an empty one is none, as for the client
    assert "hf_" not in repr(found())


@works("Hub and locks", "a token file that cannot be read", note="left out, with a warning")
def test_a_token_file_that_cannot_be_read_is_left_out(public, elsewhere, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    elsewhere()
    for name in ("file/token", "folder"):
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / name))
        with pytest.warns(StoreWarning, match="NO_TOKEN"):
            assert pull("high/tiny", registry=ADDRESS)[0].digest == tiny().digest


def test_the_clients_own_file_goes_through_the_client(monkeypatch, tmp_path):
    path = tmp_path / "token"
    path.write_text("hf_old")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(path))
    monkeypatch.setenv("HF_TOKEN_PATH", str(path))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_renewed")
    assert found().token == "hf_renewed"


def test_a_home_below_the_cache_of_the_platform(monkeypatch, tmp_path):
    for name in ("HF_TOKEN_PATH", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text("hf_xdg")
    assert found().token == "hf_xdg"


@pytest.mark.parametrize("token", ["hf_a b", "h\u00e9", '"hf_a b"', "hf_\x00"])
@pytest.mark.parametrize("source", ["HF_TOKEN", "file", "argument"])
def test_a_token_that_cannot_be_one_says_where_it_is(monkeypatch, tmp_path, token, source):
    given = None
    if source == "HF_TOKEN":
        if "\x00" in token:
            return
        monkeypatch.setenv("HF_TOKEN", token)
    elif source == "file":
        (tmp_path / "none").write_text(token)
    else:
        given = token
    with pytest.raises(InputError) as caught:
        found(given)
    assert caught.value.code == "TOKEN"
    assert {"HF_TOKEN": "HF_TOKEN", "file": str(tmp_path / "none"), "argument": "argument"}[source] in str(caught.value)
    assert token not in str(caught.value)


@works("Hub and locks", "A token with a newline at its end", note="of HF_TOKEN, a file or an argument")
def test_a_newline_is_no_part_of_a_token(public, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"{public.token}\n")
    assert len(pull("high/tiny", registry=ADDRESS)) == 1
    assert publish(tiny("other"), ADDRESS).new


@refused("Hub and locks", "A wrong or expired token on a public repository", "TOKEN_REFUSED", note="says where it was found")
@pytest.mark.parametrize("source", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "file", "argument"])
def test_a_refused_token_is_said_to_be(public, elsewhere, monkeypatch, tmp_path, source):
    token = None
    if source == "file":
        (tmp_path / "none").write_text(SECRET)
    elif source == "argument":
        token = SECRET
    else:
        monkeypatch.setenv(source, SECRET)
    named = str(tmp_path / "none") if source == "file" else source
    for act in (
        lambda: pull("high/tiny", registry=HubStore(ADDRESS, token=token)),
        lambda: HubRepository(REPO, token=token).read("index.json", commit=public.head(REPO).id, limit=10**6),
        lambda: HubRepository(REPO, token=token).tree(public.head(REPO).id),
        lambda: HubRepository(REPO, token=token).commit({"x": b"x"}, parent=public.head(REPO).id, message="x"),
        lambda: HubRepository("local/none", token=token).resolve(),
        lambda: Cell.from_pretrained(REPO, token=token),
        lambda: tiny().push_to_hub("local/tiny", token=token),
    ):
        elsewhere()
        with pytest.raises(PolicyError) as caught:
            act()
        text = str(caught.value)
        assert (caught.value.code, caught.value.exit_code) == ("TOKEN_REFUSED", 6)
        assert named in text
        assert "refused by the Hub" in text
        assert "a public repository needs no token" in text
        assert SECRET not in text


def test_the_command_says_so_too(public, elsewhere, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    elsewhere()
    assert main(["pull", "high/tiny", "--registry", ADDRESS]) == 6
    assert "Unset HF_TOKEN: a public repository needs no token" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert main(["pull", "high/tiny", "--registry", ADDRESS]) == 0


@refused("Hub and locks", "A gated repository", "GATED")
@pytest.mark.parametrize(("status", "token"), [(403, True), (401, False)])
def test_a_gated_repository(public, elsewhere, monkeypatch, status, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", public.token)
    public.faults.add(status=status, headers={"X-Error-Code": "GatedRepo"})
    for act in (lambda: pull("high/tiny", registry=ADDRESS), lambda: Cell.from_pretrained(REPO)):
        with pytest.raises(PolicyError) as caught:
            act()
        assert caught.value.code == "GATED"
        assert ("HF_TOKEN was sent" in str(caught.value)) == token


def test_a_token_without_the_right(public, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", public.token)
    public.faults.add(status=403)
    with pytest.raises(PolicyError, match="the environment variable HF_TOKEN was sent") as caught:
        pull("high/tiny", registry=ADDRESS)
    assert caught.value.code == "DENIED"


def test_no_token_and_no_such_repository(public):
    with pytest.raises(NotFoundError, match="NO_REGISTRY"):
        pull("high/tiny", registry="hf://local/none")
    public.repository(REPO).private = True
    with pytest.raises(NotFoundError, match="missing or private repository"):
        HubRepository(REPO).read("index.json", commit=public.head(REPO).id, limit=10**6)


@works("Hub and locks", "HF_HUB_DISABLE_IMPLICIT_TOKEN", note="only a token given as an argument is sent")
def test_an_implicit_token_that_is_not_to_be_sent(public, elsewhere, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true")
    elsewhere()
    assert len(pull("high/tiny", registry=ADDRESS)) == 1
    with pytest.raises(PolicyError, match="HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        publish(tiny("other"), ADDRESS)
    assert publish(tiny("other"), HubStore(ADDRESS, token=public.token)).new


def test_a_token_goes_to_its_endpoint_alone(public, elsewhere, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", public.token)
    public.storage = public.elsewhere
    elsewhere()
    public.forget()
    pull("high/tiny", registry=ADDRESS)
    assert {token for _, target, token in public.log if target.startswith("/__lfs")} == {False}
    with hostile_server.Server(lambda talk: talk.answer(b"", 401)) as other:
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        for one in (HubRepository(REPO, endpoint=public.url), HubRepository(REPO)):
            assert one.endpoint in (public.url, other.url)
        assert HubRepository(REPO, endpoint=public.url).resolve().commit == public.head(REPO).id
        assert other.talks == []


def test_a_denial_of_the_storage_says_nothing_of_the_token(public, elsewhere, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", public.token)
    with hostile_server.Server(lambda talk: talk.answer(b"", 403)) as storage:
        public.storage = storage.url
        elsewhere()
        with pytest.raises(PolicyError) as caught:
            pull("high/tiny", registry=ADDRESS)
        assert caught.value.code == "DENIED"
        assert "HF_TOKEN" not in str(caught.value)
        assert Path(storage.talks[0].path).name == tiny().digest
