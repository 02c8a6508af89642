"""A registry on the Hub: the shipped code and the real client against a local one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import HfApi, snapshot_download

import registry
from batteries.errors import (
    ConflictError,
    IntegrityError,
    PolicyError,
)
from batteries.io import canonical_json
from registry import DirectoryStore, attest, pull, verify_store, yank
from registry.catalog import manifest_bundle, store_keys
from registry.catalog.index import Index
from registry.stores.hub import HubStore
from registry.stores.snapshot import locate, open_snapshot
from registry.transfer.mirror import mirror
from registry.transfer.pull import pull_locked
from tests.support.cells import attestation, cells, filled, publish, python, tiny
from tests.support.hubserver import QUIET
from tests.support.soak import many

pytestmark = pytest.mark.filterwarnings(QUIET)
REPO = "local/cells"
ADDRESS = f"hf://{REPO}"


# A registry on the Hub.


def test_a_published_cell_is_pulled_whole(hub, elsewhere):
    cell = tiny()
    assert publish(cell, ADDRESS).number == 1
    attest(attestation(cell), ADDRESS)
    elsewhere()
    (found,) = pull("high/tiny", registry=ADDRESS)
    assert found.to_bytes() == cell.to_bytes()
    assert found.manifest == cell.manifest
    assert found.origin.source == ADDRESS
    assert [finding.kind for finding in verify_store(registry.open_store(ADDRESS)) if finding.ok] == [
        "index",
        "manifest",
        "blob",
        "attestation",
    ]


def test_no_lock_of_the_clients_library_is_taken(hub, elsewhere, monkeypatch):
    """Its older versions, which the client allows, empty what a link in the place of a lock file leads to."""
    filelock = pytest.importorskip("filelock")

    def taken(*_, **__):
        raise AssertionError("a lock was taken")

    monkeypatch.setattr(filelock.BaseFileLock, "acquire", taken)
    publish(tiny(), ADDRESS)
    elsewhere()
    assert len(pull("high/tiny", registry=ADDRESS)) == 1


def test_each_change_is_one_commit_with_bundle_and_card(hub):
    first, second = tiny("one"), tiny("two", seed=1)
    publish(first, ADDRESS)
    publish(second, ADDRESS)
    attest(attestation(second), ADDRESS)
    yank("high/one@1.0.0", "superseded", ADDRESS)
    commits = [commit.message for commit in hub.history(REPO)]
    assert commits == [
        "Update the index",
        "Update the index",
        "Publish high/two/1.0.0",
        "Publish high/one/1.0.0",
        "initial commit",
    ]
    files = hub.head(REPO).files
    assert manifest_bundle.unpack(files["manifests.jsonl"]) == {
        "high/one/1.0.0.json": first.manifest.to_bytes(),
        "high/two/1.0.0.json": second.manifest.to_bytes(),
    }
    card = files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: svae-batteries\nlicense: apache-2.0\n")
    assert "| high/two@1.0.0 |" in card
    assert "yanked: superseded" in card
    assert "viable (quick-1)" in card


def test_the_same_cell_again_is_no_commit(hub):
    assert publish(tiny(), ADDRESS).new
    assert not publish(tiny(), ADDRESS).new
    assert len(hub.history(REPO)) == 2
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        publish(tiny(seed=1), ADDRESS)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_cold_pull_is_one_request_per_blob_and_four(hub, elsewhere, count):
    mirror(filled(*cells(count)), ADDRESS)
    assert len(hub.history(REPO)) == 2
    elsewhere()
    hub.forget()
    found = pull(*(f"high/cell-{n}" for n in range(count)), registry=ADDRESS)
    assert [cell.digest for cell in found] == [cell.digest for cell in cells(count)]
    assert hub.asked == {"info": 1, "file": count + 3}  # the index, its signature if it has one, the manifests
    hub.forget()
    pull(*(f"high/cell-{n}" for n in range(count)), registry=ADDRESS)
    assert hub.asked == {"info": 1, "file": 1}


def test_a_cold_pull_by_tag_is_no_dearer(hub, elsewhere):
    mirror(filled(*cells(3)), ADDRESS)
    HfApi(endpoint=hub.url, token=hub.token).create_tag(REPO, tag="v1")
    elsewhere()
    hub.forget()
    pull(*(f"high/cell-{n}" for n in range(3)), registry=f"{ADDRESS}@v1")
    assert hub.asked == {"refs": 1, "file": 6}


def test_a_locked_pull_needs_no_right_index(hub, elsewhere):
    mirror(filled(*cells(3)), ADDRESS)
    lock = registry.Lock.of(locate([registry.Reference.parse(f"high/cell-{n}") for n in range(3)], ADDRESS))
    hub.write(REPO, {"index.json": b"nonsense"})
    elsewhere()
    assert [cell.digest for cell in pull_locked(lock)] == [cell.digest for cell in cells(3)]


def test_a_bundle_that_lacks_or_lies_costs_requests_only(hub, elsewhere):
    mirror(filled(*cells(3)), ADDRESS)
    lines = hub.head(REPO).files["manifests.jsonl"].splitlines(keepends=True)
    for damaged in (b"".join(lines[:2]), b"", None, lines[0] + lines[1].replace(b'"steps":10', b'"steps":11') + lines[2]):
        hub.write(REPO, {"manifests.jsonl": damaged})
        elsewhere()
        assert len(pull(*(f"high/cell-{n}" for n in range(3)), registry=ADDRESS)) == 3
    publish(tiny("new", seed=9), ADDRESS)
    assert len(manifest_bundle.unpack(hub.head(REPO).files["manifests.jsonl"])) == 4


def test_a_bundle_too_large_to_be_read_is_neither_asked_for_nor_written(hub, elsewhere, monkeypatch):
    monkeypatch.setattr(manifest_bundle, "MAX_BUNDLE", 100)
    mirror(filled(*cells(3)), ADDRESS)
    assert "manifests.jsonl" not in hub.head(REPO).files
    hub.write(REPO, {"manifests.jsonl": b"\n" * 10**6})
    elsewhere()
    hub.forget()
    assert len(pull(*(f"high/cell-{n}" for n in range(3)), registry=ADDRESS)) == 3
    assert hub.asked == {"info": 1, "file": 8}  # the index, its signature if it has one, each manifest and each cell


def test_a_tag_and_a_commit_are_read_as_they_were_and_not_written(hub):
    publish(tiny(version="1.0.0"), ADDRESS)
    HfApi(endpoint=hub.url, token=hub.token).create_tag(REPO, tag="release/1")
    commit = hub.head(REPO).id
    publish(tiny(version="2.0.0", seed=1), ADDRESS)
    assert open_snapshot(ADDRESS).index.newest("high/tiny") == "2.0.0"
    for revision, fixed in (("release/1", commit), (commit, None)):
        store = HubStore(f"{ADDRESS}@{revision}")
        assert Index.from_bytes(store.read_index(), where="").newest("high/tiny") == "1.0.0"
        assert store.fixed_commit == fixed
        with pytest.raises(PolicyError) as caught:
            publish(tiny("other"), store)
        assert caught.value.code == "READ_ONLY"
    assert len(hub.history(REPO)) == 3


def test_a_branch_is_written(hub):
    publish(tiny(), ADDRESS)
    hub.repository(REPO).branches["dev"] = hub.head(REPO).id
    publish(tiny("other", seed=1), f"{ADDRESS}@dev")
    assert set(open_snapshot(f"{ADDRESS}@dev").index.cells) == {"high/tiny", "high/other"}
    assert set(open_snapshot(ADDRESS).index.cells) == {"high/tiny"}
    assert HubStore(f"{ADDRESS}@dev").fixed_commit is None


def test_a_branch_that_moves_mixes_nothing(hub):
    publish(tiny(), ADDRESS)
    store = HubStore(ADDRESS, writable=False)
    before = store.read_index()
    files = hub.head(REPO).files
    hub.write(REPO, {path: b"other bytes" for path in files if not path.startswith(".")})
    found = store.keys()
    assert len(found) == 2
    assert all(store.read(key, limit=2**20) == files[key] for key in found)
    assert store.read_index() != before


def test_a_history_that_is_gone_is_named(hub, elsewhere):
    publish(tiny(), ADDRESS)
    (located,) = locate([registry.Reference.parse("high/tiny")], ADDRESS)
    repository = hub.repository(REPO)
    repository.commits.pop(repository.branches["main"])
    with pytest.raises(IntegrityError) as caught:
        located.manifest()
    assert caught.value.code == "MISSING"


def test_large_files_from_another_origin(hub, elsewhere):
    hub.storage = hub.elsewhere
    mirror(filled(*cells(2)), ADDRESS)
    elsewhere()
    hub.forget()
    pull("high/cell-0", "high/cell-1", registry=ADDRESS)
    asked = [(target.split("/")[1], token) for _, target, token in hub.log]
    assert asked.count(("__lfs", False)) == 2  # the token stays with the Hub
    assert ("__lfs", True) not in asked
    assert ("local", True) in asked


def test_a_downloaded_snapshot_is_the_same_registry(hub, tmp_path):
    cell = tiny()
    publish(cell, ADDRESS)
    attest(attestation(cell), ADDRESS)
    publish(tiny("other", seed=1), ADDRESS)
    snapshot_download(REPO, local_dir=tmp_path / "copy", cache_dir=tmp_path / "cache", endpoint=hub.url, token=hub.token)
    copy, remote = DirectoryStore(tmp_path / "copy", writable=False), registry.open_store(ADDRESS)
    assert copy.read_index() == remote.read_index()
    found = copy.keys()
    assert found == remote.keys()
    assert len(found) == 5
    for key in found:
        assert copy.read(key, limit=2**20) == remote.read(key, limit=2**20)
    assert all(finding.ok for finding in verify_store(copy))


# Several at a time.


@pytest.mark.slow
def test_of_many_publishers_one_wins_each_version_and_nothing_acknowledged_is_lost(hub, elsewhere):
    publishers, names = many(16, 64), 5

    def work(n):
        won = []
        own = tiny(f"cell-{n % names}", version=f"2.0.{n}", seed=1000 + n)
        for cell in (own, *(tiny(f"cell-{(n + m) % names}", seed=n) for m in range(many(3, names)))):
            try:
                publish(cell, HubStore(ADDRESS))
            except ConflictError as error:
                assert error.code == "VERSION_EXISTS"  # noqa: PT017 - in a thread
            else:
                won.append(cell)
        return won

    with ThreadPoolExecutor(publishers) as pool:
        won = [cell for cells in pool.map(work, range(publishers)) for cell in cells]
    versions = [f"{cell.name}@{cell.version}" for cell in won]
    assert len(versions) == len(set(versions)) == publishers + names
    elsewhere()
    found = pull(*versions, registry=ADDRESS)
    assert [cell.digest for cell in found] == [cell.digest for cell in won]
    assert len(hub.history(REPO)) == 1 + publishers + names


def test_what_was_put_stays_put_until_the_index_is_swapped(hub):
    key, other = store_keys.manifest("low/x", "1.0.0"), store_keys.manifest("low/y", "1.0.0")
    first, second = HubStore(ADDRESS), HubStore(ADDRESS)
    first.put(key, b"first")
    second.put(key, b"second")
    second.put(other, b"second")
    first.swap_index(None, b"1")
    with pytest.raises(ConflictError, match="INDEX_MOVED"):
        second.swap_index(None, b"2")
    assert second.read(other, limit=10) == b"second"
    expected = canonical_json.sha256(second.read_index())
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        second.swap_index(expected, b"2")
    second.swap_index(expected, b"2")
    assert (second.read(key, limit=10), second.read(other, limit=10)) == (b"first", b"second")
    assert hub.head(REPO).files[key] == b"first"


def test_a_repository_made_by_somebody_else_meanwhile(hub):
    store = HubStore(ADDRESS)
    assert store.read_index() is None
    publish(tiny("theirs"), ADDRESS)
    publish(tiny("ours", seed=1), store)
    assert set(open_snapshot(ADDRESS).index.cells) == {"high/theirs", "high/ours"}


def test_other_files_of_the_repository_are_left_alone(hub):
    hub.write(REPO, {"notes.txt": b"mine", "low/x/notes.md": b"mine"})
    publish(tiny(), ADDRESS)
    assert hub.head(REPO).files["notes.txt"] == b"mine"
    assert registry.open_store(ADDRESS).keys("low/") == []


# Addresses in the configuration; starting fast.


def test_an_address_wherever_a_folder_may_be_named(hub, monkeypatch):
    from registry.stores.settings import config_file

    publish(tiny(), ADDRESS)
    config_file().parent.mkdir(parents=True)
    config_file().write_text(f'[registries]\nlab = "{ADDRESS}"\n')
    assert len(pull("lab/high/tiny")) == 1
    monkeypatch.setenv("BATTERIES_REGISTRY", ADDRESS)
    assert len(pull("high/tiny")) == 1


def test_nothing_of_the_network_is_imported_before_it_is_needed():
    code = "import sys, registry.cli.program, registry.stores.settings, batteries.cell.cell\n"
    code += "print([name for name in ('httpx2', 'httpcore2', 'huggingface_hub', 'torch') if name in sys.modules])"
    assert python(code).stdout == "[]\n"
