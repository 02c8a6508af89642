"""Locks that are carried: to another machine, checkout or editor; the registry that ships by its name; yanked versions."""

import codecs
import json
import shutil
from pathlib import Path

import pytest

import registry
from batteries import Cell
from batteries.errors import FormatError, IntegrityError, NotFoundError, PolicyError
from batteries.io.home import home
from registry import YankedWarning, open_store, pull, pull_locked, yank
from registry.catalog.reference import Reference
from registry.cli import main
from registry.stores import settings
from registry.stores.settings import config_file
from registry.stores.snapshot import locate, open_snapshot
from registry.transfer.lock_paths import absolute, portable
from registry.transfer.lockfile import Lock
from registry.transfer.mirror import mirror
from tests.compatibility import refused, works
from tests.support.cells import publish, tiny, tree
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
SHIPPED = "low/fresnel-256"
ADDRESS = "hf://local/cells"


@pytest.fixture
def folder(tmp_path):
    for cell in (tiny(), tiny(version="1.1.0", seed=1), tiny("other", seed=2)):
        publish(cell, tmp_path / "project" / "cells")
    return tmp_path / "project" / "cells"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A registry that ships, somewhere."""
    publish(tiny(), tmp_path / "site-packages" / "manifests")
    monkeypatch.setattr(settings, "embedded", lambda: tmp_path / "site-packages" / "manifests")
    return tmp_path / "site-packages" / "manifests"


def lock_of(*references, where):
    return Lock.of(locate([Reference.parse(text) for text in references], where))


# The registry that ships.


@pytest.mark.slow
@works("Hub and locks", "--registry embedded", note="flag, variable, config.toml, Python, the first part of a reference")
def test_the_registry_that_ships_has_a_name(shipped, monkeypatch, capsys):
    assert open_store("embedded").url == open_store().url == open_store(shipped).url == "embedded"
    assert pull("high/tiny", registry="embedded")[0].origin.source == "embedded"
    assert len(pull("embedded/high/tiny")) == len(pull("high/tiny", registry=Path("embedded"))) == 1
    assert main(["list", "--registry", "embedded"]) == 0
    assert "in embedded" in capsys.readouterr().err
    assert main(["verify", "--all", "--registry", "embedded"]) == main(["fsck", "--registry", "embedded"]) == 0
    monkeypatch.setenv("BATTERIES_REGISTRY", "embedded")
    assert len(pull("high/tiny")) == 1
    monkeypatch.delenv("BATTERIES_REGISTRY")
    config_file().parent.mkdir(parents=True)
    config_file().write_text('registry = "embedded"\n[registries]\nours = "embedded"\n')
    assert len(pull("high/tiny", "ours/high/tiny")) == 2


def test_it_is_read_only_and_mirrored(shipped, tmp_path):
    before = tree(shipped)
    for act in (
        lambda: publish(tiny("other"), "embedded"),
        lambda: yank("high/tiny@1.0.0", "x", "embedded"),
        lambda: mirror(tmp_path / "copy", "embedded"),
    ):
        assert mirror("embedded", tmp_path / "copy").cells == 1
        publish(tiny("more", seed=3), tmp_path / "copy")
        with pytest.raises(PolicyError) as caught:
            act()
        assert caught.value.code == "READ_ONLY"
    assert tree(shipped) == before


def test_a_folder_of_that_name(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    publish(tiny("mine", seed=4), "./embedded")
    assert len(pull("high/mine", registry="./embedded")) == 1
    with pytest.raises(NotFoundError, match="NO_CELL"):
        pull("high/mine", registry="embedded")
    config_file().parent.mkdir(parents=True)
    config_file().write_text(f'[registries]\nembedded = "{tmp_path / "embedded"}"\n')
    assert len(pull("embedded/high/mine")) == 1  # a table of the user's own goes first


@works("Hub and locks", "A lock of the registry that ships, on another machine")
def test_a_lock_of_the_registry_that_ships_has_no_path(shipped, tmp_path, monkeypatch, elsewhere):
    lock_of("high/tiny", where=None).write(tmp_path / "cells.lock")
    text = (tmp_path / "cells.lock").read_text()
    assert '"source": "embedded"' in text
    assert "/" not in text.replace("high/tiny", "")
    moved = tmp_path / "elsewhere" / "registry" / "manifests"
    shutil.move(shipped, moved)
    monkeypatch.setattr(settings, "embedded", lambda: moved)
    elsewhere()
    assert pull_locked(Lock.read(tmp_path / "cells.lock"))[0].to_bytes() == tiny().to_bytes()


def test_an_old_lock_of_another_machine_says_what_to_do(shipped, tmp_path, elsewhere):
    lock = lock_of("high/tiny", where=None)
    old = lock._with_sources(lambda source: "/usr/lib/python3/site-packages/registry/manifests")
    line = json.dumps(old.model_dump(mode="json"), sort_keys=True, separators=(",", ":")) + "\n"
    (tmp_path / "cells.lock").write_text(line)
    elsewhere()
    with pytest.raises(NotFoundError, match="--registry embedded") as caught:
        pull_locked(Lock.read(tmp_path / "cells.lock"))
    assert caught.value.code == "NO_REGISTRY"
    assert len(pull_locked(Lock.read(tmp_path / "cells.lock"), registry="embedded")) == 1


def test_the_shipped_lock_as_a_user_writes_it(tmp_path, capsys):
    assert main(["lock", SHIPPED, "--out", str(tmp_path / "a.lock")]) == 0
    assert main(["pull", "--locked", str(tmp_path / "a.lock"), "--out", str(tmp_path / "out")]) == 0
    assert Cell.read(tmp_path / "out" / f"{SHIPPED}.safetensors").name == SHIPPED
    assert str(Path.cwd()) not in (tmp_path / "a.lock").read_text()
    capsys.readouterr()


# Folders.


@works("Hub and locks", "A lock with its registry in a checkout that is moved")
@pytest.mark.parametrize("place", ["cells.lock", "locks/cells.lock", "a/b/cells.lock", "cells/cells.lock"])
def test_a_project_is_moved_with_its_lock(folder, tmp_path, elsewhere, place):
    lock = lock_of("high/tiny", "high/other", where=folder)
    path = folder.parent / place
    lock.write(path)
    assert Lock.read(path) == lock
    assert str(tmp_path) not in path.read_text()
    shutil.move(folder.parent, tmp_path / "moved")
    elsewhere()
    cells = pull_locked(Lock.read(tmp_path / "moved" / place))
    assert [cell.origin.source for cell in cells] == [str(tmp_path / "moved" / "cells")] * 2


@pytest.mark.parametrize(
    ("source", "folder", "written"),
    [
        ("/work/p/cells", "/work/p", "./cells"),
        ("/work/p", "/work/p", "./."),
        ("/work/p", "/work/p/locks", "../"),
        ("/work/cells", "/work/p/locks", "../../cells"),
        ("/work/cells", "/work/p/locks/more", "/work/cells"),
        ("/mnt/cells", "/work", "/mnt/cells"),
        ("/work/p/embedded", "/work/p", "./embedded"),
        ("hf://a/b@v1", "/work", "hf://a/b@v1"),
        ("embedded", "/work", "embedded"),
        ("memory", "/work", "memory"),
    ],
)
def test_what_a_lock_calls_a_folder(source, folder, written):
    assert portable(source, Path(folder)) == written
    assert absolute(written, Path(folder)) == source


# Its layout.


def test_a_lock_written_through_a_link_is_carried_too(folder, tmp_path):
    project, link = tmp_path / "deep" / "project", tmp_path / "link"
    shutil.copytree(folder, project / "cells")
    link.symlink_to(project)
    lock_of("high/tiny@1.0.0", where=link / "cells").write(link / "cells.lock")
    assert json.loads((project / "cells.lock").read_text())["cells"][0]["source"] == "./cells"
    project.rename(tmp_path / "moved")
    link.unlink()
    assert pull_locked(Lock.read(tmp_path / "moved" / "cells.lock"))[0].digest == tiny().digest


@pytest.mark.slow
@works("Hub and locks", "A lock under git: a line a value, other indents, CRLF, a byte order mark, one line")
def test_a_lock_is_json_for_people_and_read_in_any_layout(folder, tmp_path):
    lock = lock_of("high/tiny", "high/other", where=folder)
    path = tmp_path / "cells.lock"
    lock.write(path)
    text = path.read_text()
    assert text.endswith("}\n")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    changed = lock_of("high/tiny@1.0.0", "high/other", where=folder)
    changed.write(tmp_path / "other.lock")
    differing = set(text.splitlines()) ^ set((tmp_path / "other.lock").read_text().splitlines())
    assert 2 <= len(differing) <= 10  # version, two digests, at most two sizes
    for data in (
        text.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF8 + text.encode(),
        codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
        json.dumps(json.loads(text), indent=4).encode(),
        json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode() + b"\n",
        text.strip().encode(),
    ):
        path.write_bytes(data)
        assert Lock.read(path) == lock
        assert [cell.digest for cell in pull_locked(Lock.read(path))] == [one.blob.sha256 for one in lock.cells]


@pytest.mark.slow
@refused("Hub and locks", "A lock of a newer schema, with a key twice, or cut off", "SCHEMA_NEWER", note="each by its name")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> branch\n", "MERGE_CONFLICT"),
        (lambda text: text.replace('      "version"', '<<<<<<< ours\n      "version"', 1), "MERGE_CONFLICT"),
        (lambda text: text.replace("\n", "\r\n").replace("{\r\n", "{\r\n<<<<<<< a\r\n", 1), "MERGE_CONFLICT"),
        (lambda text: text.replace('"schema_version": "1.0"', '"schema_version": "2.0", "news": {}'), "SCHEMA_NEWER"),
        (lambda text: text.replace("{", '{"cells": [],', 1), "DUPLICATE_KEY"),
        (lambda text: text[: len(text) // 2], "JSON"),
        (lambda text: "", "JSON"),
        (lambda text: text.replace('"size": ', '"size": NaN, "x": ', 1), "NUMBER"),
        (lambda text: text.replace(tiny().digest, tiny().digest.upper()), "SCHEMA"),
        (lambda text: text.replace(tiny().digest, tiny().digest[:-1]), "SCHEMA"),
        (lambda text: text.replace('"path"', '"Path"'), "SCHEMA"),
    ],
)
def test_a_damaged_lock_is_one_error(folder, tmp_path, capsys, change, code):
    path = tmp_path / "cells.lock"
    lock_of("high/tiny@1.0.0", where=folder).write(path)
    path.write_bytes(change(path.read_text()).encode())
    with pytest.raises(FormatError) as caught:
        Lock.read(path)
    assert (caught.value.code, caught.value.exit_code) == (code, 4)
    assert str(path) in str(caught.value)
    assert main(["pull", "--locked", str(path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_utf_16_is_said_to_be(folder, tmp_path):
    path = tmp_path / "cells.lock"
    path.write_bytes(lock_of("high/tiny", where=folder).to_bytes().decode().encode("utf-16"))
    with pytest.raises(FormatError, match="UTF-16"):
        Lock.read(path)


@refused("Hub and locks", "A lock whose digests were edited by hand", "MISSING")
def test_digests_edited_by_hand(folder, tmp_path):
    path = tmp_path / "cells.lock"
    lock_of("high/tiny@1.0.0", where=folder).write(path)
    path.write_text(path.read_text().replace(tiny().digest, "0" * 64))
    with pytest.raises(IntegrityError, match="WRONG_BLOB"):
        pull_locked(Lock.read(path))


# Yanked versions.


@works("Hub and locks", "A yanked version that a reference or a lock names", note="pulled, with a warning")
def test_a_yanked_version_is_pulled_with_a_warning(folder):
    lock = lock_of("high/tiny", where=folder)
    yank("high/tiny@1.1.0", "wrong data", folder)
    digest = tiny(version="1.1.0", seed=1).digest
    for act in (
        lambda: pull("high/tiny@1.1.0", registry=folder),
        lambda: pull(f"high/tiny@sha256:{digest}", registry=folder),
        lambda: pull_locked(lock),
        lambda: [registry.load("high/tiny@1.1.0", registry=folder)],
    ):
        with pytest.warns(YankedWarning, match=r"high/tiny@1\.1\.0 is yanked: wrong data") as caught:
            cells = act()
        assert len(caught) == 1
        assert (caught[0].message.reference, caught[0].message.reason) == ("high/tiny@1.1.0", "wrong data")
        assert (cells[0].version, cells[0].origin.yanked) == ("1.1.0", "wrong data")
    assert [cell.version for cell in pull("high/tiny", "high/tiny@^1", registry=folder)] == ["1.0.0", "1.0.0"]
    assert {cell.origin.yanked for cell in pull("high/tiny", registry=folder)} == {None}


def test_the_warning_is_about_the_users_line(folder):
    yank("high/tiny@1.1.0", "wrong data", folder)
    lock = lock_of("high/tiny@1.1.0", where=folder)
    for act in (pull, pull_locked):
        with pytest.warns(YankedWarning) as caught:
            act(lock) if act is pull_locked else act("high/tiny@1.1.0", registry=folder)
        assert [one.filename for one in caught] == [__file__]


@pytest.mark.slow
def test_the_command_says_it_once_on_stderr_and_in_json(folder, tmp_path, capsys):
    lock_of("high/tiny", "high/other", where=folder).write(tmp_path / "cells.lock")
    yank("high/tiny@1.1.0", "wrong data", folder)
    for arguments in (
        ["high/tiny@1.1.0", "high/other", "--registry", str(folder)],
        ["--locked", str(tmp_path / "cells.lock")],
        ["--locked", str(tmp_path / "cells.lock"), "--registry", str(folder)],
    ):
        assert main(["pull", *arguments, "--json"]) == 0
        said = capsys.readouterr()
        assert said.err.count("warning: high/tiny@1.1.0 is yanked: wrong data\n") == 1
        assert {one["reference"]: one["yanked"] for one in json.loads(said.out)["cells"]} == {
            "high/tiny@1.1.0": "wrong data",
            "high/other@1.0.0": None,
        }


def test_a_lock_of_the_hub(hub, elsewhere):
    publish(tiny(), ADDRESS)
    lock = lock_of("high/tiny", where=ADDRESS)
    pull_locked(lock)
    yank("high/tiny@1.0.0", "wrong data", ADDRESS)
    before = home()
    hub.forget()
    assert pull_locked(lock)[0].origin.yanked is None
    assert hub.asked == {}  # all of it is in the cache, and the index that was read last is of before
    open_snapshot(ADDRESS)
    hub.forget()
    with pytest.warns(YankedWarning):
        pull_locked(lock)
    assert hub.asked == {}
    elsewhere()
    assert home() != before
    hub.forget()
    with pytest.warns(YankedWarning):
        pull_locked(lock)
    assert hub.asked == {"info": 1, "file": 3}


# Registries that are not there.


@pytest.mark.slow
@refused("Hub and locks", "A command on a registry that is not there", "NO_REGISTRY", note="nothing is made")
@pytest.mark.parametrize(
    "command",
    [
        ["yank", "high/tiny@1.0.0", "--reason", "x", "--registry", "{}"],
        ["list", "--registry", "{}"],
        ["show", "high/tiny", "--registry", "{}"],
        ["pull", "high/tiny", "--registry", "{}"],
        ["verify", "--all", "--registry", "{}"],
        ["fsck", "--registry", "{}"],
        ["fsck", "--registry", "{}", "--repair"],
        ["lock", "high/tiny", "--registry", "{}", "--out", "x.lock"],
        ["mirror", "{}", "target"],
        ["validate", "high/tiny", "--registry", "{}"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_registry_that_is_missing_is_said_to_be(hub, tmp_path, monkeypatch, capsys, command):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    hub.write("local/empty", {"notes.txt": b"x"})
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    for place, code, exit_code in (
        (f"{tmp_path}/nowhere/at/all", "NO_REGISTRY", 3),
        (f"{tmp_path}/empty", "NO_INDEX", 3),
        (f"{tmp_path}/file", "NOT_A_FOLDER", 2),
        ("hf://local/none", "NO_REGISTRY", 3),
        ("hf://local/empty", "NO_INDEX", 3),
    ):
        assert main([part.format(place) for part in command]) == exit_code
        said = capsys.readouterr()
        assert f"[{code}]" in said.err + said.out
        assert place in said.err + said.out
        assert tree(tmp_path) == before
    assert "local/none" not in hub.repositories


def test_attesting_where_there_is_no_registry(tmp_path):
    from tests.support.cells import attestation

    with pytest.raises(NotFoundError, match="NO_REGISTRY"):
        registry.attest(attestation(tiny()), tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_publishing_makes_a_registry(tmp_path):
    assert publish(tiny(), tmp_path / "new").number == 1
    assert mirror(tmp_path / "new", tmp_path / "newer").copied == 1
