"""Reading a checkpoint: the usual wrappings, no code run, and every damage a typed error."""

import codecs
import contextlib
import importlib
import io
import os
import pathlib
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from batteries import Label
from batteries.errors import FormatError, PolicyError
from batteries.io.canonical_json import sha256
from batteries.packaging import foreign_checkpoint
from batteries.packaging.foreign_checkpoint import MAX_ENTRIES
from batteries.packaging.pickles.inert_pickle import Skipped
from tests.support.cells import python, tree
from tests.support.checkpoints import saved, state
from tests.support.costs import peak_of
from tests.support.pickles import ATTACKS
from tests.support.soak import many


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        dict,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "config": {"D": 4, "name": "x"}},
        lambda s: {"model_state_dict": s, "cv": torch.tensor(0.9), "losses": [1.0, 0.5], "device": torch.device("cpu")},
        lambda s: {f"module.{name}": tensor for name, tensor in s.items()},
        lambda s: {"model": {f"_orig_mod.module.{name}": tensor for name, tensor in s.items()}},
        lambda s: {f"module._orig_mod.{name}": torch.nn.Parameter(tensor) for name, tensor in s.items()},
    ],
)
def test_the_usual_wrappings(tmp_path, wrap):
    found = foreign_checkpoint.read(saved(tmp_path, wrap(state())))
    assert found.tensors.keys() == state().keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state().items())


@pytest.mark.parametrize(
    ("content", "key", "lines"),
    [
        (lambda s, o: {"model": o, "state_dict": s}, "state_dict", ["weights of state_dict, not of model"]),
        (lambda s, o: {**o, "model": s}, "model", ["weights of model"]),
        (lambda s, o: {"ema": s, "model_state": o}, "ema", ["weights of ema"]),
        (
            lambda s, o: {**prefixed("a.", s), **prefixed("ema.", o)},
            None,
            ["prefix a. taken off", "weights under a., not under ema."],
        ),
    ],
)
def test_of_two_sets_it_says_which_it_took(tmp_path, content, key, lines):
    good, other = state(), state(seed=1)
    found = foreign_checkpoint.read(saved(tmp_path, content(good, other)), key if key == "ema" else None)
    assert (found.key, list(found.lines)) == (key, lines)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in good.items())


def prefixed(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def test_numbers_of_numpy_and_paths_are_left_unread(tmp_path):
    beside = {"loss": np.float32(0.5), "rng": np.ones(3), "out": pathlib.Path("/tmp/x"), "steps": [np.int64(4)]}
    found = foreign_checkpoint.read(saved(tmp_path, {"model": state(), **beside}))
    assert found.tensors.keys() == state().keys()
    assert isinstance(found.beside["loss"], Skipped)
    (line,) = (line for line in found.lines if "left unread" in line)
    assert "multiarray.scalar" in line
    assert "PosixPath" in line
    with pytest.raises(PolicyError, match="getattr"):
        foreign_checkpoint.read(saved(tmp_path, {"model": state(), "x": Hostile(getattr, pathlib.Path, "cwd"), **beside}))


@pytest.mark.parametrize(
    ("entry", "data", "says"),
    [
        ("data.pkl", b"\x80\x02}r\xff\xff\xff\x7f.", "an entry 2147483647 of its memo"),
        ("byteorder", b"big", "byte order"),
    ],
)
def test_a_pickle_that_asks_for_memory_and_another_byte_order_are_refused(tmp_path, entry, data, says):
    path = rewritten(tmp_path, lambda name, old: data if name.endswith(entry) else old)
    with pytest.raises((FormatError, PolicyError), match=says):
        foreign_checkpoint.read(path)


def test_safetensors_with_metadata_behind_a_link(tmp_path):
    save_file(dict(state()), tmp_path / "blob", metadata={"format": "pt"})
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    found = foreign_checkpoint.read(tmp_path / "model.safetensors")
    assert (found.name, found.digest) == ("model.safetensors", sha256((tmp_path / "blob").read_bytes()))
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state().items())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda s: {"net": s}, "got none of them, but tensors under net"),
        (lambda s: {"model": {"inner": s}}, "got none of them"),
        (lambda s: {}, "got none of them"),
        (lambda s: list(s.values()), "a list"),
        (lambda s: torch.zeros(3), "a Tensor"),
        (lambda s: {**s, "module.enc_in.weight": torch.zeros(1)}, "names with and without module."),
        (lambda s: {**s, "epoch": 3, "note": "x"}, "got epoch, note"),
        (lambda s: {"state_dict": {**s, "more": {"x": torch.zeros(1)}}}, "got more"),
        (lambda s: {"state_dict": {0: torch.zeros(1)}}, "got 0"),
        (lambda s: {"x" * 201: torch.zeros(1)}, "entries other than tensors"),
        (lambda s: {f"t{i}": torch.zeros(1) for i in range(257)}, "too many tensors"),
    ],
)
def test_what_is_not_one_state_dict_is_refused(tmp_path, content, says):
    with pytest.raises(FormatError) as caught:
        foreign_checkpoint.read(saved(tmp_path, content(state())))
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_pickle_that_asks_for_much_is_refused_before_it_gets_it(tmp_path, name):
    path = tmp_path / "model.pt"
    path.write_bytes(ATTACKS[name])

    def refuse():
        with pytest.raises((FormatError, PolicyError)) as caught:
            foreign_checkpoint.read(path)
        assert caught.value.code in {"CHECKPOINT", "UNSAFE_FORMAT", "STATE_DICT"}
        assert len(str(caught.value)) < 2000

    assert peak_of(refuse) < 4 * len(ATTACKS[name]) + 2**26


@pytest.mark.parametrize("text", ["[" * 10**6, "[" + "[]," * 10**6 + "[]]", '{"D": ' + "9" * 10**6 + "}", "{"])
def test_a_header_that_asks_for_much_is_refused(tmp_path, text):
    path = tmp_path / "model.safetensors"
    for metadata in ({"config": "{" + text}, {"config": '{"a":' + text + "}"}):
        save_file(state(), path, metadata)
        with pytest.raises(FormatError, match="CHECKPOINT"):
            foreign_checkpoint.read(path)
    header = b'{"__metadata__":{"config":"' + b"x" * 2**23 + b'"}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(FormatError, match="a header of"):
        foreign_checkpoint.read(path)


class Hostile:
    """A pickle of this calls whatever it was made with."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(folder):
    """Checkpoints that would write a file, if anybody ran them, and others that call things."""
    mark = f"open({str(folder / 'mark')!r}, 'w').write('x')"
    torch.save({"model": state(), "x": Hostile(exec, mark)}, folder / "exec.pt")
    torch.save({**state(), "enc_in.bias": Hostile(eval, mark)}, folder / "eval.pt")
    torch.save({"x": Hostile(os.system, f"touch {folder / 'mark'}")}, folder / "system.pt")
    torch.save({"x": Hostile(os.system, f"touch {folder / 'mark'}")}, folder / "four.pt", pickle_protocol=4)
    torch.save({"x": Hostile(importlib.import_module, "antigravity")}, folder / "import.pt")
    torch.save({"x": Hostile(codecs.encode, "text", "bz2_codec")}, folder / "codec.pt")  # imports, and torch lets it
    torch.save({"x": Hostile(bytearray, 10**11)}, folder / "memory.pt")  # so does this
    torch.save({"x": Label}, folder / "class.pt")
    torch.save({"x": state()["enc_in.bias"].numpy()}, folder / "numpy.pt")
    torch.save({"x": Hostile(exec, mark)}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (folder / "bare.pt").write_bytes(pickle.dumps(Hostile(exec, mark)))
    (folder / "deep.pt").write_bytes(b"\x80\x02" + b"(" * 100_000 + b".")
    return sorted(path.name for path in folder.iterdir())


AUDITED = """
import sys
from pathlib import Path
from batteries.packaging import foreign_checkpoint
from batteries.errors import PolicyError
folder, good = map(Path, sys.argv[1:])
foreign_checkpoint.read(good)
watched, seen = {"exec", "compile", "import", "os.system", "subprocess.Popen", "pickle.find_class", "marshal.loads"}, []
def hook(event, arguments):
    if event in watched or event == "open" and arguments[1] not in ("r", "rb", None):
        seen.append((event, str(arguments)[:80]))
sys.addaudithook(hook)
for path in sorted(folder.iterdir()):
    try:
        foreign_checkpoint.read(path)
    except PolicyError as error:
        print(path.name, error.code, error.found)
foreign_checkpoint.read(good)
assert seen == [], seen
"""


@pytest.mark.slow
def test_a_checkpoint_that_needs_code_is_refused_and_not_run(tmp_path):
    (tmp_path / "hostile").mkdir()
    names = hostile(tmp_path / "hostile")
    done = python(AUDITED, tmp_path / "hostile", saved(tmp_path, state()))
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert sorted(rows) == names
    assert {row.split()[0] for row in rows.values()} == {"UNSAFE_FORMAT"}
    assert rows["system.pt"] == "UNSAFE_FORMAT posix.system"
    assert tree(tmp_path / "hostile").keys() == set(names)


def rewritten(folder, change, **options):
    """A good checkpoint with one of its entries changed."""
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(folder / "changed.pt", "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return folder / "changed.pt"


@pytest.mark.parametrize(
    ("change", "options", "code"),
    [
        (lambda name, data: data, {}, None),
        (lambda name, data: data[:-4] if name.endswith("/data/0") else data, {}, "CHECKPOINT"),  # less than its tensor has
        (lambda name, data: b"" if name.endswith("data.pkl") else data, {}, "CHECKPOINT"),
        (lambda name, data: data[:-20] if name.endswith("data.pkl") else data, {}, "CHECKPOINT"),
        (lambda name, data: b"cbuiltins\nlen\n" + data if name.endswith("data.pkl") else data, {}, "UNSAFE_FORMAT"),
        (lambda name, data: data, {"compression": zipfile.ZIP_DEFLATED}, "TOO_LARGE"),
        (
            lambda name, data: bytes(2**24) if name.endswith("/data/0") else data,
            {"compression": zipfile.ZIP_BZIP2},
            "TOO_LARGE",
        ),
        (lambda name, data: bytes(5 * 2**20) if name.endswith("data.pkl") else data, {}, "CHECKPOINT"),
    ],
)
def test_a_changed_archive(tmp_path, change, options, code):
    path = rewritten(tmp_path, change, **options)
    if code is None:
        assert foreign_checkpoint.read(path).tensors.keys() == state().keys()
        return
    with pytest.raises((FormatError, PolicyError), match=code):
        foreign_checkpoint.read(path)


def test_two_pickles_in_one_archive_are_refused(tmp_path):
    path = saved(tmp_path, state())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(FormatError, match=r"one data\.pkl"):
        foreign_checkpoint.read(path)


@pytest.mark.parametrize(
    "names", [["checkpoint/data/0"], [f"archive/more/{n}" for n in range(MAX_ENTRIES)]], ids=["twice", "many"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_archive_of_names_that_repeat_or_have_no_end_is_refused(tmp_path, names):
    """Of two entries of one name, each reader of archives takes the one it likes."""
    path = saved(tmp_path, state())
    with zipfile.ZipFile(path, "a") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(FormatError, match=f"at most {MAX_ENTRIES} entries, each of its own name"):
        foreign_checkpoint.read(path)


def test_a_file_cut_anywhere_is_a_typed_error(tmp_path):
    whole = saved(tmp_path, state()).read_bytes()
    cut = tmp_path / "cut.pt"
    for size in range(0, len(whole) - 1, len(whole) // many(60, 2000)):
        cut.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="CHECKPOINT"):
            foreign_checkpoint.read(cut)


def test_a_flipped_byte_is_a_typed_error_or_reads(tmp_path):
    whole = bytearray(saved(tmp_path, state()).read_bytes())
    pick, flipped = random.Random(0), tmp_path / "flipped.pt"
    for _ in range(many(150, 5000)):
        place, bit = pick.randrange(len(whole)), 1 << pick.randrange(8)
        whole[place] ^= bit
        flipped.write_bytes(whole)
        whole[place] ^= bit
        with contextlib.suppress(FormatError, PolicyError):
            foreign_checkpoint.read(flipped)


def test_more_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("batteries.packaging.checkpoint_places.MAX_FOREIGN", 1000)
    with pytest.raises(FormatError, match="TOO_LARGE"):
        foreign_checkpoint.read(saved(tmp_path, state()))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(kind):
    tensors = {"a": torch.tensor([0.5, 1.25], dtype=kind), "b": torch.zeros(2)}
    arrays, converted = foreign_checkpoint.floats(tensors, "x")
    assert (arrays["a"].dtype, arrays["a"].tolist()) == ("float32", [0.5, 1.25])
    assert converted == (str(kind).removeprefix("torch."),)


def test_other_types_are_refused_all_at_once():
    tensors = {"a": torch.zeros(2, dtype=torch.int64), "b": torch.zeros(2), "c": torch.zeros(2, dtype=torch.complex64)}
    with pytest.raises(FormatError, match=r"in x: expected .*, got a is int64; c is complex64 \[ST_DTYPE\]"):
        foreign_checkpoint.floats(tensors, "x")
