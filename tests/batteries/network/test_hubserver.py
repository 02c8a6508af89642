"""The real client, unmodified, against the local Hub."""

import contextlib
import json
import urllib.request

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from tests.support.hubfaults import Plan
from tests.support.hubserver import QUIET, apart, serving

pytestmark = pytest.mark.filterwarnings(QUIET)
REPO = "local/cells"
LARGE = bytes(range(256)) * 64
TEXT = b'{"a":1}\n'


@pytest.fixture
def hub():
    with serving(page=3) as hub:
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


def add(**files):
    return [CommitOperationAdd(name.replace("__", "."), data) for name, data in files.items()]


@pytest.fixture
def first(hub, api):
    """A repository with one commit by the client."""
    api.create_repo(REPO)
    return api.create_commit(REPO, add(model__safetensors=LARGE, manifest__json=TEXT), commit_message="first")


def test_regular_and_large_files_become_one_commit(hub, api, first):
    head = hub.head(REPO)
    assert (head.id, head.message) == (first.oid, "first")
    assert head.files["model.safetensors"] == LARGE
    assert head.files["manifest.json"] == TEXT
    assert head.large == {"model.safetensors"}
    assert [commit.message for commit in hub.history(REPO)] == ["first", "initial commit"]
    assert hub.asked == {"create": 1, "preupload": 1, "batch": 1, "upload": 1, "verify": 1, "commit": 1}


def test_a_card_is_looked_at_first(hub, api, first):
    api.create_commit(REPO, add(README__md=b"---\nlicense: mit\n---\n"), commit_message="card")
    assert hub.asked["yaml"] == 1
    with pytest.warns(UserWarning, match="metadata"):
        api.create_commit(REPO, add(README__md=b"no metadata"), commit_message="card")


def test_the_same_files_again_are_no_commit(hub, api, first):
    again = api.create_commit(REPO, add(model__safetensors=LARGE, manifest__json=TEXT), commit_message="again")
    assert again.oid == first.oid
    assert (hub.asked["commit"], hub.asked["upload"]) == (1, 1)


def test_a_stale_parent_is_refused(hub, api, first):
    second = api.create_commit(REPO, add(b=b"2"), commit_message="second", parent_commit=first.oid)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(REPO, add(c=b"3"), commit_message="third", parent_commit=first.oid)
    assert caught.value.response.status_code == 412
    assert hub.head(REPO).id == second.oid


def test_what_a_repository_ignores_is_left_out(hub, api, first):
    hub.write(REPO, {".gitignore": b"blobs/\n"})
    api.create_commit(REPO, [CommitOperationAdd("blobs/x", b"x"), CommitOperationAdd("y", b"y")], commit_message="some")
    assert "blobs/x" not in hub.head(REPO).files
    assert hub.head(REPO).files["y"] == b"y"


def test_files_are_removed(hub, api, first):
    api.create_commit(REPO, [CommitOperationDelete("manifest.json")], commit_message="less")
    assert "manifest.json" not in hub.head(REPO).files


def test_branches_and_tags_are_listed_and_resolved(hub, api, first):
    api.create_tag(REPO, tag="v1")
    second = api.create_commit(REPO, add(b=b"2"), commit_message="second")
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second.oid}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first.oid}
    assert api.model_info(REPO).sha == second.oid
    assert {file.rfilename for file in api.model_info(REPO, revision="v1").siblings} >= {"model.safetensors", "manifest.json"}
    assert api.model_info(REPO, revision="v1", expand=["sha"]).sha == first.oid
    with pytest.raises(HfHubHTTPError, match="409 Conflict"):
        api.create_tag(REPO, tag="v1")
    api.delete_tag(REPO, tag="v1")
    assert api.list_repo_refs(REPO).tags == []


def test_the_tree_comes_in_pages(hub, api, first):
    hub.write(REPO, {f"files/{n}": b"%d" % n for n in range(10)})
    hub.forget()
    found = {entry.path: entry for entry in api.list_repo_tree(REPO, recursive=True)}
    assert len(found) == 13
    assert found["files/7"].size == 1
    assert found["model.safetensors"].lfs.size == len(LARGE)
    assert hub.asked == {"tree": 5}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_files_are_downloaded(hub, api, first, tmp_path, elsewhere):
    hub.storage = hub.elsewhere if elsewhere else None
    for name, data in (("model.safetensors", LARGE), ("manifest.json", TEXT)):
        with open(hf_hub_download(REPO, name, endpoint=hub.url, token=hub.token, cache_dir=tmp_path), "rb") as file:  # noqa: PTH123
            assert file.read() == data
    assert hub.asked["storage"] == int(elsewhere)
    assert [token for _, target, token in hub.log if target.startswith("/__lfs") and elsewhere][1:] in ([], [False])


def test_what_is_not_there_is_named(hub, api, first, tmp_path):
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.model_info("local/none")
    with pytest.raises(RepositoryNotFoundError, match="401"):
        HfApi(endpoint=hub.url, token=False).model_info("local/none")
    with pytest.raises(RevisionNotFoundError, match="404"):
        api.model_info(REPO, revision="v9")
    with pytest.raises(RemoteEntryNotFoundError, match="404"):
        hf_hub_download(REPO, "none", endpoint=hub.url, token=hub.token, cache_dir=tmp_path)


def test_who_may_write(hub, api, first):
    assert api.whoami()["name"] == "local"
    for token in (False, "hf_wrong"):
        with pytest.raises(HfHubHTTPError) as caught:
            HfApi(endpoint=hub.url, token=token).create_commit(REPO, add(b=b"2"), commit_message="no")
        assert caught.value.response.status_code == 401
    assert hub.head(REPO).id == first.oid


def test_a_private_repository_is_not_there_for_others(hub, api):
    api.create_repo("local/secret", private=True)
    assert api.model_info("local/secret").private
    with pytest.raises(RepositoryNotFoundError, match="401"):
        HfApi(endpoint=hub.url, token=False).model_info("local/secret")
    api.create_repo("local/secret", exist_ok=True)


# Faults, seen by a client that forgives nothing.


@pytest.fixture
def get(hub, first):
    """GET of a small file."""
    with httpx2.Client(base_url=hub.url, timeout=5) as client:
        yield lambda **headers: client.get(f"/{REPO}/resolve/main/manifest.json", headers=headers)


def test_without_a_fault(get):
    assert get().content == TEXT
    assert get(Range="bytes=2-").content == TEXT[2:]
    assert get(Range="bytes=2-3").headers["Content-Range"] == f"bytes 2-3/{len(TEXT)}"
    assert get(Range="bytes=99-").status_code == 416


def test_a_status_with_headers(hub, get):
    hub.faults.add(kind="file", nth={2}, status=429, headers={"Retry-After": "7"})
    answers = [get() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 200]
    assert answers[1].headers["Retry-After"] == "7"


def test_bytes_that_are_flipped_or_replaced(hub, get):
    hub.faults.add(nth={1}, flip=0)
    hub.faults.add(nth={1}, whole=True)
    hub.faults.add(nth={1}, gzip=10_000)
    hub.faults.add(nth={1}, headers={"ETag": '"../../x"'})
    assert get().content == bytes([TEXT[0] ^ 1]) + TEXT[1:]
    assert get(Range="bytes=2-").content == TEXT
    assert get().content == bytes(10_000)
    assert get().headers["ETag"] == '"../../x"'


@pytest.mark.parametrize("fault", [{"cut": 3}, {"lost": True}, {"size": 100}])
def test_answers_that_break_off(hub, get, fault):
    hub.faults.add(nth={1}, **fault)
    with pytest.raises(httpx2.RemoteProtocolError, match=r"closed|disconnected"):
        get()
    assert get().content == TEXT


def test_answers_that_do_not_end(hub):
    hub.write(REPO, {"x": b"x"})
    hub.faults.add(nth={1}, endless=True)
    hub.faults.add(nth={1}, stall=60)
    hub.faults.add(nth={1}, drip=60)
    url = f"{hub.url}/{REPO}/resolve/main/x"
    with httpx2.stream("GET", url, timeout=5) as answer:
        assert sum(len(chunk) for chunk, _ in zip(answer.iter_raw(), range(50), strict=False)) > 10**5
    for _ in range(2):
        with httpx2.stream("GET", url, timeout=0.2) as answer:
            assert answer.status_code == 200
            with contextlib.suppress(httpx2.ReadTimeout):
                assert answer.read() == b"x"


def test_a_commit_whose_answer_is_lost(hub, api, first):
    hub.faults.add(kind="commit", nth={1}, lost=True)
    with pytest.raises(httpx2.TransportError, match="disconnected"):
        api.create_commit(REPO, add(b=b"2"), commit_message="second")
    assert hub.head(REPO).message == "second"


def test_the_same_seed_gives_the_same_faults():
    def struck(seed):
        plan = Plan(seed)
        plan.add(kind="file", path="blobs/", chance=0.5, cut=1)
        assert plan.strike("file", "/manifests") is None
        return [plan.strike("file", "/blobs/x") is not None for _ in range(64)]

    assert struck(1) == struck(1) != struck(2)
    assert 16 < sum(struck(1)) < 48


def test_a_hub_in_a_process_of_its_own():
    with apart() as url:
        api = HfApi(endpoint=url, token="hf_local")
        api.create_repo(REPO)
        with urllib.request.urlopen(f"{url}/api/models/{REPO}", timeout=5) as answer:
            assert json.load(answer)["sha"] == api.model_info(REPO).sha
