"""The folder of a site: whole or as it was, made again only where something changed, and never in the place of other files."""

import json
import os
import shlex

import pytest

import composer
import registry
from batteries.errors import BatteriesError, FormatError, InputError, IntegrityError, StoreError
from batteries.io import atomic_files, canonical_json
from composer.artifact.kinds import FORMS
from registry.catalog import store_keys
from registry.cli import main
from registry.site import building, links
from registry.site.building import build_site, space_card
from registry.site.contents import Contents
from registry.site.site_folder import LOCK, STATE, SiteFolder, SiteState
from registry.site.site_index import SiteIndex
from registry.stores.snapshot import Snapshot, open_snapshot
from tests.support.cells import ROOT, attestation, tiny, tree
from tests.support.sites import Page, broken_links, differences, store_of

FOUR = {".nojekyll", "README.md", "index.html", "index.json"}


def files(folder):
    found = tree(folder)
    return {name: data for name, data in found.items() if data is not None and name not in (STATE, LOCK)}


@pytest.fixture
def made(tmp_path):
    """A site of two cells, one of them in two versions, and its store."""
    cells = [tiny("a"), tiny("a", "1.1.0", seed=1), tiny("b", seed=2)]
    store = store_of(cells, attestations=[attestation(cells[0])])
    answer = build_site(tmp_path / "site", store)
    return tmp_path / "site", cells, answer


def test_a_site_has_a_page_for_every_version_and_every_link_leads_to_one(made):
    folder, cells, answer = made
    assert set(files(folder)) == FOUR | {f"{cell.name}/{cell.version}.html" for cell in cells}
    assert (answer.pages, answer.made, answer.removed) == (7, 7, 0)
    assert list(broken_links(folder)) == []
    assert (folder / "index.html").as_posix() == answer.front


def test_progress_counts_cells_and_files_up_to_the_end(tmp_path):
    told = []
    build_site(tmp_path / "site", store_of([tiny("a"), tiny("b", seed=1)]), progress=lambda *step: told.append(step))
    assert told == [(done, 8) for done in range(9)]


def test_only_what_changed_is_made_again(made, monkeypatch):
    folder, cells, _ = made
    before = files(folder)
    report = attestation(cells[2], verdict="walked back")
    attested = store_of(cells, attestations=[attestation(cells[0]), report], number=2)
    answer = build_site(folder, attested)
    changed = {name for name, data in files(folder).items() if data != before.get(name)}
    assert changed == {"high/b/1.0.0.html", "index.html", "index.json"}
    assert answer.made == 3
    assert "walked back" in Page((folder / "high/b/1.0.0.html").read_text()).text.lower()
    assert build_site(folder, attested).made == 0
    assert build_site(folder, attested, address="hf://me/cells").made == 7 - 1 + 1  # commands on all pages, and its card
    monkeypatch.setattr("registry.site.site_templates.digest", lambda: "0" * 64)
    assert build_site(folder, attested).made == 7


def test_what_is_gone_is_removed_and_other_files_stay(made):
    folder, cells, _ = made
    (folder / "high" / "a" / "notes.txt").write_text("mine")
    (folder / "CNAME").write_text("example.org")
    answer = build_site(folder, store_of(cells[1:2]))
    assert answer.removed == 2
    assert set(files(folder)) == FOUR | {"high/a/1.1.0.html", "high/a/notes.txt", "CNAME"}
    assert not (folder / "high" / "b").exists()
    assert list(broken_links(folder)) == []


def test_a_damaged_or_missing_page_is_made_again(made):
    folder, cells, _ = made
    store, before = store_of(cells, attestations=[attestation(cells[0])]), files(folder)
    (folder / "index.html").write_text("damaged")
    (folder / "high/a/1.0.0.html").unlink()
    assert build_site(folder, store).made == 2
    assert files(folder) == before


def test_a_folder_of_other_files_is_refused_and_nothing_in_it_changes(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"thesis.tex.*\[NOT_A_SITE\]"):
        build_site(tmp_path, store_of([tiny()]))
    assert tree(tmp_path) == before
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        build_site(tmp_path / "thesis.tex", store_of([tiny()]))


def test_an_empty_clone_is_no_folder_of_other_files(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitattributes").write_text("")
    assert build_site(tmp_path, store_of([tiny()])).made == 5


@pytest.mark.parametrize("state", [b"{}\n", b"not JSON", b'{"pages":{},"schema_version":"2.0"}\n'])
def test_a_list_of_pages_that_cannot_be_read_is_an_error(made, state):
    folder, cells, _ = made
    (folder / STATE).write_bytes(state)
    with pytest.raises(BatteriesError, match=r"\[(SCHEMA|JSON|SCHEMA_NEWER|NOT_CANONICAL)\]"):
        build_site(folder, store_of(cells))


@pytest.mark.parametrize(
    "page",
    ["../outside.html", "/etc/passwd", "a//b", "a/../../b", "a/b/c/d.html", "", ".git/config", "a/.git/b.html", "a/b/c.tex"],
)
def test_a_list_of_pages_outside_of_the_site_removes_none_of_them(made, page):
    folder, cells, _ = made
    (folder.parent / "outside.html").write_text("mine")
    state = json.loads((folder / STATE).read_bytes())
    state["pages"][page] = {"sha256": "0" * 64, "made_from": "0" * 64}
    (folder / STATE).write_bytes(canonical_json.dump(state))
    with pytest.raises(InputError, match="NOT_A_SITE"):
        build_site(folder, store_of(cells))
    assert (folder.parent / "outside.html").read_text() == "mine"


def test_a_registry_with_wrong_bytes_leaves_the_site_as_it_was(made):
    folder, cells, _ = made
    before = tree(folder)
    store = store_of([*cells, tiny("c", seed=3)])
    store._held[store_keys.blob(tiny("c", seed=3).digest)] = b"other bytes"
    with pytest.raises(IntegrityError, match=r"\[SIZE_MISMATCH\]"):
        build_site(folder, store)
    assert tree(folder) == before


def test_a_build_that_is_stopped_leaves_the_old_site_and_the_next_one_ends_it(made, monkeypatch):
    folder, cells, _ = made
    store = store_of([*cells, tiny("c", seed=3), tiny("d", seed=4)])
    before = files(folder)

    class Killed(BaseException):
        pass

    def stop(contents, page):
        raise Killed("by a test")

    with monkeypatch.context() as patched:
        patched.setattr(building, "front_page", stop)
        with pytest.raises(Killed, match="by a test"):
            build_site(folder, store)
    assert files(folder) == before
    moved, move = [], atomic_files.move

    def moving(path, to):
        if len(moved) == 2:
            raise Killed("by a test")
        moved.append(to)
        move(path, to)

    with monkeypatch.context() as patched:  # between two of its files: the front page is still the old one, and right
        patched.setattr(atomic_files, "move", moving)
        with pytest.raises(Killed, match="by a test"):
            build_site(folder, store)
    assert files(folder)["index.html"] == before["index.html"]
    assert list(broken_links(folder)) == []
    answer = build_site(folder, store)
    assert answer.made >= 2
    assert set(files(folder)) == FOUR | {f"{cell.name}/{cell.version}.html" for cell in (*cells, tiny("c"), tiny("d"))}


def test_two_processes_do_not_make_one_site_at_once(made, monkeypatch):
    folder, cells, _ = made
    monkeypatch.setattr("registry.site.site_folder.WAIT", 0.01)
    with SiteFolder.opened(folder), pytest.raises(StoreError, match="LOCK_TIMEOUT"):
        build_site(folder, store_of(cells))


def test_the_index_says_what_the_registry_does(made):
    folder, cells, answer = made
    data = (folder / "index.json").read_bytes()
    index = SiteIndex.model_validate_json(data)
    assert index.to_bytes() == data
    assert [one.reference for one in index.cells] == ["high/a@1.0.0", "high/a@1.1.0", "high/b@1.0.0"]
    assert [one.newest for one in index.cells] == [False, True, True]
    assert [one.verdicts for one in index.cells] == [{"quick-1": "viable"}, {}, {}]
    assert [one.blob.sha256 for one in index.cells] == [cell.digest for cell in cells]
    assert [one.description for one in index.cells] == ["made by hand"] * 3
    assert all((folder / one.page).is_file() for one in index.cells)
    assert (index.number, index.registry) == (1, answer.registry)


def test_the_exported_schema_is_that_of_the_index():
    exported = json.loads((ROOT / "docs" / "schema" / "site-index-1.0.json").read_text())
    assert exported == SiteIndex.model_json_schema(mode="serialization")


def test_the_card_makes_a_static_space():
    head = space_card('a"b: \u202ec\n---').split("---\n")[1].splitlines()
    assert head[0] == 'title: "Cells in a\\"b: \\ufffdc\\n---"'
    assert "sdk: static" in head
    assert "app_file: index.html" in head


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A registry of shipped cells and of a model of two of them, and its site."""
    folder = tmp_path_factory.mktemp("shipped")
    cells = registry.pull("low/fresnel-64", "low/johanna-64", "low/attractor-64", "high/fresnel-64", registry="embedded")
    label = composer.artifact.PackedLabel(name="two", version="1.0.0", license="Apache-2.0", description="Two <b>cells</b>.")
    composer.pack(composer.compose(cells[:2]), folder / "two.safetensors", label)
    store = store_of(cells)
    registry.publish(folder / "two.safetensors", store)
    registry.mirror(store, folder / "registry")
    build_site(folder / "site", folder / "registry")
    return folder, cells


def page_of(folder, reference):
    return Page((folder / "site" / f"{reference.replace('@', '/')}.html").read_text())


@pytest.mark.slow
def test_a_site_of_shipped_cells_shows_them_and_their_relations(shipped):
    folder, cells = shipped
    assert list(broken_links(folder / "site")) == []
    names = [f"{cell.name}@{cell.version}" for cell in cells]
    images = [given for tag, given in page_of(folder, names[0]).tags if tag == "img"]
    assert len(images) == 8
    assert all(given["src"].startswith("data:image/png;base64,") and given["alt"] for given in images)
    index = SiteIndex.model_validate_json((folder / "site" / "index.json").read_bytes())
    related = {one.reference: {row.reference for row in one.related} for one in index.cells}
    assert related == {**{name: {*names[:3]} - {name} for name in names[:3]}, names[3]: set()}
    rows = [row for one in index.cells for row in one.related]
    assert all(0 < row.residual < row.exchanged <= 1 for row in rows)
    model = page_of(folder, "model/two@1.0.0")
    assert {f"../../{cell.name}/{cell.version}.html" for cell in cells[:2]} <= set(model.links)
    assert "Two <b>cells</b>." in model.text
    contents = Contents(open_snapshot(folder / "registry"))
    for entry in (*contents.cells, *contents.packed):
        html = (folder / "site" / entry.page).read_text()
        assert list(differences(html, entry.manifest)) == []
        assert json.loads(Page(html).raw) == entry.manifest.model_dump(mode="json")
    assert "model/two/1.0.0.html" in Page((folder / "site" / "index.html").read_text()).links
    assert build_site(folder / "site", folder / "registry").made == 0


@pytest.mark.slow
def test_the_commands_and_the_code_of_a_page_run(shipped, capsys, monkeypatch, tmp_path):
    folder, cells = shipped
    monkeypatch.chdir(tmp_path)
    page = page_of(folder, f"low/johanna-64@{cells[1].version}")
    pull, show, _ = page.codes["commands"].splitlines()
    for line in (pull, show, page_of(folder, "model/two@1.0.0").codes["commands"].splitlines()[0]):
        assert main(shlex.split(line)[1:]) == 0
    assert (tmp_path / "cells" / "low" / "johanna-64.safetensors").is_file()
    assert (tmp_path / "cells" / "model" / "two.safetensors").is_file()
    assert main(["show", page.codes["reference by digest"], "--registry", str(folder / "registry")]) == 0
    found = {}
    exec(page.codes["Python"].replace(".images", ".images[::16]"), found)  # noqa: S102
    assert found["out"].recon.shape[:2] == (4, 2)
    exec(page_of(folder, "model/two@1.0.0").codes["Python"], found)  # noqa: S102
    assert sorted(found["model"]) == sorted(cell.name for cell in cells[:2])


def test_a_site_is_made_from_the_command_line(tmp_path, capsys, monkeypatch):
    registry.mirror(store_of([tiny()]), tmp_path / "registry")
    monkeypatch.chdir(tmp_path)
    assert main(["site", "out", "--registry", "registry", "--address", "hf://me/cells"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out' / 'index.html'}\n"
    assert "files of the site: 5; made: 5, unchanged: 0, removed: 0" in said.err
    assert "--registry hf://me/cells" in Page((tmp_path / "out" / "high/tiny/1.0.0.html").read_text()).text
    assert main(["site", "registry", "--registry", "registry"]) == 2
    assert "NOT_A_SITE" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"x")
    assert main(["site", "file/deeper", "--registry", "registry"]) == 2
    assert "NOT_A_FOLDER" in capsys.readouterr().err
    assert main(["site", "out", "--registry", "nowhere", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NO_REGISTRY"


def test_browse_makes_the_site_in_the_cache_and_opens_it(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(opened.append(url)))
    folder = tmp_path / "registry"
    registry.mirror(store_of([tiny()]), folder)
    assert main(["browse", "--registry", str(folder), "--no-open", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["front"].startswith(os.environ["BATTERIES_HOME"])
    assert opened == []
    assert main(["browse", "--registry", str(folder)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{found['front']}\n"
    assert "made: 0" in said.err
    assert "no web browser found" in said.err
    assert opened == [f"file://{found['front']}"]


def test_a_registry_on_the_hub_is_read_through_the_cache(hub, tmp_path, monkeypatch):
    cells = [tiny("a"), tiny("b", seed=1)]
    registry.mirror(store_of(cells, attestations=[attestation(cells[0])]), tmp_path / "registry")
    hub.write("local/cells", {name: data for name, data in tree(tmp_path / "registry").items() if data is not None})
    answer = build_site(tmp_path / "site", "hf://local/cells")
    assert (answer.made, answer.registry) == (6, "hf://local/cells")
    assert (
        "batteries pull high/a@1.0.0 --out cells --registry hf://local/cells"
        in Page((tmp_path / "site" / "high/a/1.0.0.html").read_text()).text
    )
    before = files(tmp_path / "site")
    assert build_site(tmp_path / "again", "hf://local/cells", mode="offline").made == 6
    assert files(tmp_path / "again") == before


def test_kinds_other_than_cells_have_texts_for_their_columns():
    contents = Contents(Snapshot.take(store_of([tiny()])))
    assert contents.packed == ()
    assert set(FORMS) == {"model", "maps", "vae"}
    assert SiteState(pages={}).to_bytes() == b'{"pages":{},"schema_version":"1.0"}\n'


def test_links_need_no_working_directory(monkeypatch):
    """The working directory may have been removed."""

    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    assert links.link("index.html", "low/a/1.0.0.html") == "../../index.html"
    assert links.link("low/a/1.0.0+b.html", "index.html") == "low/a/1.0.0%2Bb.html"


def test_no_page_is_written_or_removed_through_a_link(made, tmp_path):
    """A clone of a site may have a link in the place of a folder."""
    folder, cells, _ = made
    outside, band = tmp_path / "outside", folder / cells[0].manifest.identity.band
    band.rename(outside)
    band.symlink_to(outside)
    before = tree(outside)
    with pytest.raises(FormatError, match="SYMLINK"):
        build_site(folder, store_of([cells[-1]]))
    with pytest.raises(FormatError, match="SYMLINK"):
        build_site(folder, store_of([*cells, tiny("c", seed=3)]))
    assert tree(outside) == before


def test_a_pipe_in_the_place_of_a_page_is_refused_and_not_waited_for(made):
    folder, cells, _ = made
    page = folder / f"{cells[0].name}/{cells[0].version}.html"
    page.unlink()
    os.mkfifo(page)
    with pytest.raises(FormatError, match="NOT_A_FILE"):
        build_site(folder, store_of(cells))
    assert page.is_fifo()
