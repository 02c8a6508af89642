"""One cell in a repository of its own: pushed, read back, damaged."""

import pytest
from huggingface_hub import snapshot_download

from batteries import Cell
from batteries.errors import (
    BatteriesError,
    ConflictError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from batteries.network.hub_repository import HubRepository, Resolved
from tests.support.cells import tiny
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
REPO = "local/cells"
ADDRESS = f"hf://{REPO}"


def test_a_cell_is_pushed_and_read_back(hub):
    cell = tiny()
    address = cell.push_to_hub(REPO)
    head = hub.head(REPO)
    assert address == f"{hub.url}/{REPO}/commit/{head.id}"
    assert head.message == "high/tiny@1.0.0"
    assert set(head.files) == {".gitattributes", "README.md", "manifest.json", "model.safetensors"}
    assert f'Cell.from_pretrained("{REPO}")' in head.files["README.md"].decode()
    hub.forget()
    found = Cell.from_pretrained(REPO)
    assert found.to_bytes() == cell.to_bytes()
    assert found.manifest == cell.manifest
    assert hub.asked == {"info": 1, "file": 2}


def test_a_cell_is_pushed_twice(hub):
    first = tiny().push_to_hub(REPO)
    assert tiny().push_to_hub(REPO) == first
    second = tiny(seed=1).push_to_hub(REPO, commit_message="better")
    assert hub.head(REPO).message == "better"
    assert Cell.from_pretrained(REPO).digest == tiny(seed=1).digest
    assert Cell.from_pretrained(REPO, revision=first.rpartition("/")[2]).digest == tiny().digest
    assert second != first


def test_a_cell_is_pushed_to_a_branch_and_in_private(hub):
    tiny().push_to_hub(REPO, private=True)
    assert hub.repository(REPO).private
    hub.repository(REPO).branches["dev"] = hub.head(REPO).id
    tiny(seed=1).push_to_hub(REPO, revision="dev")
    assert Cell.from_pretrained(REPO, revision="dev").digest == tiny(seed=1).digest
    assert Cell.from_pretrained(REPO).digest == tiny().digest
    with pytest.raises(NotFoundError, match="NO_REVISION"):
        tiny().push_to_hub(REPO, revision="none")


def test_a_push_that_loses_the_race_is_a_conflict(hub):
    tiny().push_to_hub(REPO)
    hub.faults.add(kind="commit", nth={1}, status=412)
    with pytest.raises(ConflictError) as caught:
        tiny(seed=1).push_to_hub(REPO)
    assert caught.value.retryable


def test_a_downloaded_cell_is_read_from_its_folder(hub, tmp_path):
    cell = tiny()
    cell.push_to_hub(REPO)
    snapshot_download(REPO, local_dir=tmp_path, endpoint=hub.url, token=hub.token)
    hub.forget()
    for folder in (tmp_path, str(tmp_path)):
        assert Cell.from_pretrained(folder).to_bytes() == cell.to_bytes()
    assert hub.asked == {}


@pytest.mark.parametrize(
    ("path", "data", "kind", "code"),
    [
        ("model.safetensors", tiny(seed=1).to_bytes(), IntegrityError, "DIGEST_MISMATCH"),
        ("model.safetensors", tiny().to_bytes() + b"x", FormatError, "TOO_LARGE"),
        ("model.safetensors", None, NotFoundError, "NO_FILE"),
        ("manifest.json", tiny(seed=1).manifest.to_bytes(), IntegrityError, "DIGEST_MISMATCH"),
        ("manifest.json", b"{}", FormatError, "SCHEMA"),
        ("manifest.json", b" " * 2**17, FormatError, "TOO_LARGE"),
        ("manifest.json", None, NotFoundError, "NO_FILE"),
    ],
)
def test_a_pushed_cell_that_was_damaged(hub, path, data, kind, code):
    tiny().push_to_hub(REPO)
    hub.write(REPO, {path: data})
    with pytest.raises(kind, match=code):
        Cell.from_pretrained(REPO)


@pytest.mark.parametrize("name", ["", "cells", "./none/such/folder", "a/b/c", "x" * 5000, "a\x00b", "../x"])
def test_neither_a_folder_nor_a_repository(hub, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if name:  # the empty one is the folder we are in
        with pytest.raises((InputError, BatteriesError)) as caught:
            Cell.from_pretrained(name)
        assert caught.value.exit_code in (2, 8)
        with pytest.raises(InputError, match="BAD_REPOSITORY"):
            tiny().push_to_hub(name)
    assert hub.asked == {}


def test_a_repository_is_what_it_resolves_to(hub):
    tiny().push_to_hub(REPO)
    head = hub.head(REPO).id
    hub.forget()
    assert HubRepository(REPO, revision=head).resolve() == Resolved(head, "other")
    assert hub.asked == {}
    hub.repository(REPO).tags["both"] = hub.repository(REPO).branches["both"] = head
    assert HubRepository(REPO, revision="both").resolve() == Resolved(head, "tag")
    assert HubRepository(REPO, revision="both").url == f"hf://{REPO}@both"
