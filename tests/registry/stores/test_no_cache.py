"""Without a cache that can be written: a folder needs none, from elsewhere a cell comes with a warning."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import composer
import registry
from batteries.errors import InputError, StoreError, StoreWarning
from batteries.io.canonical_json import sha256
from batteries.io.home import home
from composer.artifact.manifest import PackedLabel
from registry.cli import main
from registry.stores.cache import Cache
from registry.stores.hub import HubStore
from registry.stores.settings import settings
from registry.stores.snapshot import locate
from registry.transfer.pull_packed import fetch_packed
from registry.transfer.wanted import Wanted
from tests.compatibility import refused, works
from tests.support.cells import ROOT, publish, tiny
from tests.support.hubserver import QUIET
from tests.support.models import least

pytestmark = pytest.mark.filterwarnings(QUIET)
SHIPPED = "low/fresnel-256"


def a_device(tmp_path):
    return os.devnull


def a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def below_a_file(tmp_path):
    return a_file(tmp_path) / "home"


def a_loop(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path / "loop"


def nothing_made_in_proc(tmp_path):
    return Path("/proc/self/home")


def too_long(tmp_path):
    return tmp_path / ("x" * 300)


KINDS = [a_device, a_file, below_a_file, a_loop, too_long, *([nothing_made_in_proc] if Path("/proc/self").exists() else [])]


@pytest.fixture
def shelf(hub):
    """A registry on the Hub."""
    publish(tiny(), HubStore("hf://owner/cells"))
    return "hf://owner/cells"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def unwritable(request, tmp_path, monkeypatch):
    folder = request.param(tmp_path)
    monkeypatch.setenv("BATTERIES_HOME", str(folder))
    return folder


@pytest.mark.slow
@works("Disks and systems", "a local registry without a writable cache: list, show, pull, verify, lock, mirror")
def test_a_local_registry_needs_no_cache(unwritable, tmp_path, capsys):
    out = tmp_path / "out"
    for arguments in (
        ["list"],
        ["show", SHIPPED],
        ["pull", SHIPPED, "--out", str(out)],
        ["verify", SHIPPED],
        ["lock", SHIPPED, "--out", str(tmp_path / "cells.lock")],
        ["pull", "--locked", str(tmp_path / "cells.lock"), "--out", str(out)],
    ):
        assert main(arguments) == 0, capsys.readouterr().err
        assert "warning" not in capsys.readouterr().err
    publish(tiny(), tmp_path / "registry")
    assert registry.pull("high/tiny", registry=tmp_path / "registry")[0].digest == tiny().digest
    assert registry.mirror(tmp_path / "registry", tmp_path / "copy").copied == 1


def test_what_is_pulled_is_where_the_answer_says(unwritable, capsys):
    assert main(["pull", SHIPPED, "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert Path(cell["path"]).stat().st_size == cell["size"]


@works("Disks and systems", "a cell from the Hub without a writable cache", note="with a warning that names BATTERIES_HOME")
def test_a_cell_from_elsewhere_comes_with_a_warning(shelf, unwritable, capsys, tmp_path):
    with pytest.warns(StoreWarning) as said:
        (cell,) = registry.pull("high/tiny", registry=shelf)
    assert cell.digest == tiny().digest
    assert {warning.message.code for warning in said} == {"NO_CACHE", "NO_MEMORY"}
    assert all("BATTERIES_HOME" in str(warning.message) for warning in said)
    capsys.readouterr()
    assert main(["pull", "high/tiny", "--registry", shelf, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("BATTERIES_HOME") == 2
    assert (tmp_path / "out" / "high" / "tiny.safetensors").read_bytes() == tiny().to_bytes()


@refused("Disks and systems", "pull from the Hub with neither a writable cache nor --out", "NO_CACHE")
def test_what_is_kept_nowhere_is_an_error_that_names_the_variable(shelf, unwritable, capsys):
    assert main(["pull", "high/tiny", "--registry", shelf]) == 8
    assert "BATTERIES_HOME" in capsys.readouterr().err.split("error:")[1]


@pytest.mark.slow
def test_warnings_are_words_even_where_they_are_errors(shelf, monkeypatch):
    monkeypatch.setenv("BATTERIES_HOME", os.devnull)
    code = "import sys; from registry.cli import main; sys.exit(main(['list', '--registry', sys.argv[1]]))"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, shelf], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0
    assert ran.stderr.startswith("warning: ")


def test_a_full_disk_is_no_cache_and_a_failing_one_an_error(tmp_path):
    from batteries.io import filesystem
    from tests.support.faulty_disk import LackingDisk

    publish(tiny(), tmp_path / "registry")
    for number in (28, 122, 30, 13, 1):  # ENOSPC, EDQUOT, EROFS, EACCES, EPERM
        with filesystem.use(LackingDisk(create=number)):
            assert registry.pull("high/tiny", registry=tmp_path / "registry")[0].digest == tiny().digest
    with filesystem.use(LackingDisk(create=5)), pytest.raises(StoreError, match="DISK"):
        registry.pull("high/tiny", registry=tmp_path / "registry")
    assert not Cache().path(tiny().digest).exists()


def test_a_model_without_a_cache_is_the_file_of_its_folder(monkeypatch, tmp_path):
    composer.pack(least(), tmp_path / "x.safetensors", PackedLabel(name="x", version="1.0.0", license="MIT", description="x"))
    publish(tmp_path / "x.safetensors", tmp_path / "registry")
    monkeypatch.setenv("BATTERIES_HOME", os.devnull)
    (found,) = fetch_packed([Wanted.of(one) for one in locate([registry.Reference.parse("model/x")], tmp_path / "registry")])
    assert found.path.is_relative_to(tmp_path / "registry")
    assert sha256(found.path.read_bytes()) == found.manifest.file.sha256
    assert found.write(tmp_path / "out").read_bytes() == found.path.read_bytes()
    assert len(registry.pull("model/x", registry=tmp_path / "registry")[0].composition.cells) == 1


def test_a_user_without_a_home(monkeypatch):
    import platformdirs

    def none(*_, **__):
        raise RuntimeError("no home")

    for find in (none, lambda *_, **__: Path("~/.cache/batteries")):
        monkeypatch.delenv("BATTERIES_HOME", raising=False)
        monkeypatch.setattr(platformdirs, "user_cache_path", find)
        monkeypatch.setattr(platformdirs, "user_config_path", find)
        assert home().is_relative_to(os.devnull)
        assert settings().registry is None
        assert registry.pull(SHIPPED)[0].name == SHIPPED
    assert not Path("~").exists()


@pytest.mark.parametrize("value", ["~nosuchuser/x"])
def test_a_home_that_is_no_path_is_a_typed_error(monkeypatch, value):
    monkeypatch.setattr(os, "environ", {**os.environ, "BATTERIES_HOME": value})
    with pytest.raises(InputError, match="BATTERIES_HOME"):
        home()


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="takes root and setpriv")
@works("Disks and systems", "another user, whose HOME may not be looked into")
def test_another_user(tmp_path):
    closed = tmp_path / "root"
    closed.mkdir(mode=0o700)
    code = "import registry; print(registry.pull('low/fresnel-256')[0].name)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("BATTERIES", "XDG"))}
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable]
    if subprocess.run([*other, "-c", "import registry"], cwd=ROOT, capture_output=True, timeout=60).returncode:
        pytest.skip("another user may not look into this checkout, or its Python")
    ran = subprocess.run(
        [*other, "-c", code], cwd=ROOT, env={**environment, "HOME": str(closed)}, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.strip() == SHIPPED, ran.stderr
    assert "NO_CONFIG" in ran.stderr
