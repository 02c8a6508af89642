"""A thousand hostile cells: each is refused by name, and nothing in any of them runs.

Every one comes with a manifest that promises its very bytes, so that no digest stops it on the way. They are made and read in
a process of their own; once everything is imported and one of each kind was read, an audit hook counts what must not be.
"""

import gzip
import io
import json
import os
import pickle
import random
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from batteries.cell.cell import Cell
from batteries.cell.manifest import Manifest
from batteries.cell.weights_file import MAX_HEADER, tensor_digest
from batteries.errors import BatteriesError
from batteries.io import canonical_json
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import Pin, Release, Summary
from registry.stores.memory import MemoryStore
from registry.transfer.pull import pull
from tests.support.cells import ROOT, python, tiny

CELLS = 1000
PULLED = 9  # one of so many is also pulled: all kinds come up
CANARY = "it-ran"  # the file that every payload would make

GOOD = tiny()
BYTES = GOOD.to_bytes()
TEXT = BYTES[8 : 8 + struct.unpack("<Q", BYTES[:8])[0]]
BODY = BYTES[8 + len(TEXT) :]
MANIFEST = GOOD.manifest.to_bytes()


# Files. Each function takes a source of randomness and gives a blob.


class Payload:
    """Unpickled, it runs something."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def payload(rng):
    return rng.choice(
        [
            Payload(os.system, f"touch {CANARY}"),
            Payload(eval, f"open({CANARY!r}, 'w')"),
            Payload(exec, f"open({CANARY!r}, 'w').close()"),
            Payload(open, CANARY, "w"),
            Payload(__import__, "antigravity"),
            Payload(os.popen, f"touch {CANARY}"),
        ]
    )


def pickled(rng):
    return pickle.dumps({"state_dict": payload(rng)}, protocol=rng.randrange(6))


def checkpoint(rng):
    """As ``torch.save`` writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(rng))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", rng.randbytes(64))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def old_checkpoint(rng):
    """As torch wrote it before 1.6: a magic number, a version, then pickles."""
    return pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) + pickled(rng)


def object_array(rng):
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload(rng)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zip_bomb(rng):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.safetensors", bytes(2**20 * rng.randrange(1, 3)))
    return buffer.getvalue()


def leading_out(rng):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(f"../../{CANARY}"), io.BytesIO())
    return buffer.getvalue()


def packed(text, body=BODY, size=None):
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def rows(change):
    """The good header with something changed in its rows."""
    header = json.loads(TEXT)
    change(header)
    return packed(json.dumps(header, separators=(",", ":")).encode())


def a_row(rng, **fields):
    return rows(lambda header: header[rng.choice(sorted(header))].update(fields))


def renamed(rng, name):
    def change(header):
        header[name] = header.pop(rng.choice(sorted(header)))

    return rows(change)


def given_twice(rng):
    name = rng.choice(sorted(json.loads(TEXT)))
    row = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return packed(TEXT.rstrip()[:-1] + b"," + row[1:])


def shifted(rng):
    by = rng.choice([-4, 4, 1, 2**40])
    name = rng.choice(sorted(json.loads(TEXT))[1:])
    return rows(lambda header: header[name].update(data_offsets=[at + by for at in header[name]["data_offsets"]]))


def overlapping(rng):
    def change(header):
        first, second = rng.sample(sorted(header), 2)
        header[first] = header[second]

    return rows(change)


def valued(rng):
    at = 4 * rng.randrange(len(BODY) // 4)
    value = np.float32(rng.choice([np.nan, np.inf, -np.inf])).tobytes()
    return packed(TEXT, BODY[:at] + value + BODY[at + 4 :])


def empties(rng, count=5000):
    rows = b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(count))
    return packed(b"{" + rows + b"}", b"")


DTYPES = [
    "F64",
    "F16",
    "BF16",
    "I8",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F32 ",
    "f32",
    "O",
    "object",
    "|O",
    "os.system",
    None,
    7,
    ["F32"],
]
SHAPES = [[2**32, 2**32], [2**63], [-1], [True], [1.0], ["1"], [[1]], {}, None, [0], [1] * 9, [10**400], "5", [2**62, 4]]
OFFSETS = [[0], [0, 4, 8], [4, 0], [-4, 0], [0.0, 4.0], ["0", "4"], None, [0, 2**64], [True, 4], {"0": 4}, [10**4000, 4]]
NAMES = [
    "",
    "\0",
    "a\0b",
    "../../etc/passwd",
    "/etc/passwd",
    "con",
    "A" * 300,
    "__class__",
    "__reduce__",
    "os.system",
    "ENC_IN",
]
NAMES += ["enc_in.weight ", "\u202eenc_in", "\uff45nc_in.weight", "é", "\ud800", "a" * 65, "__import__('os')", "a..b", "enc-in"]

FILES = {
    "a pickle": pickled,
    "a checkpoint": checkpoint,
    "an old checkpoint": old_checkpoint,
    "an array of objects": object_array,
    "a zip": zip_bomb,
    "a tar that leads out": leading_out,
    "gzip": lambda rng: gzip.compress(BYTES),
    "nothing": lambda rng: bytes(rng.randrange(1, 9)),
    "noise": lambda rng: rng.randbytes(rng.choice([8, 9, 100, 5000])),
    "an error page": lambda rng: b"<!DOCTYPE html><html><body>503</body></html>" * rng.randrange(1, 9),
    "a pointer": lambda rng: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n",
    "a cell and a pickle": lambda rng: BYTES + pickled(rng),
    "a cell and a zip": lambda rng: BYTES + checkpoint(rng),
    "a pickle as header": lambda rng: packed(pickled(rng)),
    "a pickle as weights": lambda rng: packed(TEXT, pickled(rng)),
    "cut short": lambda rng: BYTES[: rng.randrange(8, len(BYTES))],
    "a tail": lambda rng: BYTES + bytes(rng.randrange(1, 999)),
    "a size that lies": lambda rng: packed(
        TEXT, size=rng.choice([0, 1, len(TEXT) - 1, len(TEXT) + 1, 2**31, 2**63, 2**64 - 1])
    ),
    "a huge header": lambda rng: packed(TEXT.ljust(MAX_HEADER + rng.randrange(1, 999))),
    "white space": lambda rng: packed(rng.choice([b" " + TEXT, TEXT + b"\n", b"\t" + TEXT, TEXT + b" " * 8])),
    "a mark before it": lambda rng: packed(b"\xef\xbb\xbf" + TEXT),
    "empty tensors": empties,
    "a tensor twice": given_twice,
    "a hole": shifted,
    "an overlap": overlapping,
    "metadata": lambda rng: rows(lambda h: h.update(__metadata__=rng.choice([{"class": "os.system"}, {}, "x", None]))),
    "metadata as a tensor": lambda rng: renamed(rng, "__metadata__"),
    "another name": lambda rng: renamed(rng, rng.choice(NAMES)),
    "another type": lambda rng: a_row(rng, dtype=rng.choice(DTYPES)),
    "another shape": lambda rng: a_row(rng, shape=rng.choice(SHAPES)),
    "another extent": lambda rng: a_row(rng, data_offsets=rng.choice(OFFSETS)),
    "another field": lambda rng: a_row(rng, **{rng.choice(["__class__", "loader", "strides"]): "os.system"}),
    "nested deeply": lambda rng: packed(b"[" * rng.choice([20, 5000, 30_000]) + b"]"),
    "not a number": lambda rng: packed(TEXT.replace(b"[0,", rng.choice([b"[NaN,", b"[1e999,", b"[-Infinity,", b"[1e3,"]), 1)),
    "not finite": valued,
}


# Manifests. Each function takes a source of randomness and the good manifest as a tree, and changes it.

CODE = [
    f"os.system('touch {CANARY}')",
    "__import__('os')",
    "batteries.model.patch_svae.PatchSVAE",
    "!!python/object/apply:os.system [id]",
]
CODE += ["{0.__class__.__mro__}", "{{ ''.__class__ }}", f"$(touch {CANARY})", "builtins.eval", "torch.nn.GELU", "lambda: 0"]
FIELDS = [("spec", "activation"), ("spec", "init"), ("spec", "row_norm"), ("identity", "family"), ("identity", "band")]
FIELDS += [("identity", "name"), ("identity", "version"), ("training", "data", "kind"), ("schema_version",), ("own_probe",)]
FIELDS += [("spec", "V"), ("file", "sha256"), ("file", "size"), ("training", "steps"), ("training", "triage"), ("measured",)]


def code_in_a_field(rng, tree):
    *way, last = rng.choice(FIELDS)
    for name in way:
        tree = tree[name]
    tree[last] = rng.choice(CODE)


def code_as_a_field(rng, tree):
    inner = rng.choice([tree, tree["spec"], tree["identity"], tree["file"], tree["training"], tree["measured"]["noise16-64"]])
    inner[rng.choice(["__class__", "__reduce__", "py/object", "_target_", "class", "auto_map", "trust_remote_code"])] = (
        rng.choice(CODE)
    )


def another_spec(rng, tree):
    field, value = rng.choice([("V", 4096), ("D", 256), ("hidden", 8192), ("depth", 64), ("cross_layers", 64), ("V", 10**9)])
    tree["spec"][field] = value


MANIFESTS = {"code in a field": code_in_a_field, "code as a field": code_as_a_field, "another spec": another_spec}
KINDS = (*FILES, *MANIFESTS)


def hostile(kind, rng):
    """(blob, the bytes of a manifest that promises it)."""
    tree = json.loads(MANIFEST)
    blob = FILES[kind](rng) if kind in FILES else BYTES
    digest = tensor_digest(GOOD.weights)
    tree["file"] = {"size": len(blob), "sha256": canonical_json.sha256(blob), "tensor_digest": digest}
    if kind in MANIFESTS:
        MANIFESTS[kind](rng, tree)
    return blob, canonical_json.dump(tree)


def store_of(blob, manifest):
    """A registry whose index promises these bytes."""
    store = MemoryStore()
    release = Release(manifest=Pin.of(manifest), blob=Pin.of(blob), summary=Summary.of(GOOD.manifest))
    store.put(store_keys.blob(release.blob.sha256), blob)
    store.put(store_keys.manifest(GOOD.name, GOOD.version), manifest)
    store.swap_index(None, Index(number=1, cells={GOOD.name: {GOOD.version: release}}).sealed())
    return store


# The process that reads them.

FORBIDDEN = ("pickle.find_class", "exec", "compile", "import", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn")
FORBIDDEN += ("os.fork", "os.forkpty", "os.spawn", "marshal.loads", "marshal.load", "code.__new__", "ctypes.dlopen")
FORBIDDEN += ("socket.connect", "socket.getaddrinfo", "webbrowser.open", "shutil.unpack_archive")


def main(folder):
    """Make the hostile cells in a folder, read them under an audit hook, and print what came of it as JSON."""
    rng, home = random.Random(1), os.environ["BATTERIES_HOME"]
    cells = [(kind, *hostile(kind, rng)) for kind in (KINDS * CELLS)[:CELLS]]
    paths = [write(Path(folder), n, blob, manifest) for n, (_, blob, manifest) in enumerate(cells)]
    stores = {n: store_of(*cells[n][1:]) for n in range(0, CELLS, PULLED)}
    good = write(Path(folder), CELLS, BYTES, MANIFEST)
    seen: dict[str, list[str]] = {"events": []}
    armed = False

    def hook(event, arguments):
        if armed and (event in FORBIDDEN or (event == "open" and writes(arguments) and not str(arguments[0]).startswith(home))):
            seen["events"].append(f"{event} {arguments!r}"[:300])

    sys.addaudithook(hook)
    for path in (good, *paths[: len(KINDS)]):
        outcome(lambda path=path: Cell.read(path))
    for n in (0, PULLED):
        outcome(lambda n=n: pull(GOOD.name, registry=stores[n]))
    outcome(lambda: pull(GOOD.name, registry=store_of(BYTES, MANIFEST)))
    armed = True
    read = [outcome(lambda path=path: Cell.read(path)) for path in paths]
    pulled = [outcome(lambda store=store: pull(GOOD.name, registry=store)) for store in stores.values()]
    healthy = outcome(lambda: Cell.read(good))
    armed = False
    report = {
        "read": read,
        "pulled": pulled,
        "good": healthy,
        "kinds": [kind for kind, *_ in cells],
        "torch": "torch" in sys.modules,
    }
    print(json.dumps({**seen, **report}))


def write(folder, n, blob, manifest):
    path = folder / f"{n}.safetensors"
    path.write_bytes(blob)
    path.with_suffix(".json").write_bytes(manifest)
    return path


def writes(arguments):
    _, mode, flags = arguments
    return any(letter in (mode or "") for letter in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def outcome(load):
    """The code of our error; ``loaded``; or the name of an error that is not ours."""
    try:
        load()
    except BatteriesError as error:
        return f"{error.code}" if str(error) else "an error without words"
    except Exception as error:
        return f"untyped {error!r}"
    return "loaded"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("cells")
    code = "import sys; from tests.batteries.cell.test_hostile_cells import main; main(sys.argv[1])"
    done = python(code, folder, timeout=600, BATTERIES_HOME=str(home))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_thousand_hostile_cells_are_refused_by_name(report):
    assert len(report["read"]) == CELLS
    wrong = {(kind, found) for kind, found in zip(report["kinds"], report["read"], strict=True) if not found.isupper()}
    assert wrong == set()
    assert {found for found in report["pulled"] if not found.isupper()} == set()
    assert report["good"] == "loaded"


@pytest.mark.slow
def test_no_digest_stopped_them(report):
    by_digest = {"DIGEST_MISMATCH", "SIZE_MISMATCH", "TENSOR_DIGEST"}
    stopped = {kind for kind, found in zip(report["kinds"], report["read"], strict=True) if found in by_digest}
    assert stopped <= {"code in a field", "another spec"}  # which change the promise itself


@pytest.mark.slow
def test_nothing_in_them_runs(report):
    assert report["events"] == []
    assert not report["torch"]
    assert not (ROOT / CANARY).exists()


@pytest.mark.slow
def test_the_hook_would_have_seen_it(tmp_path):
    """The same events, where something does run."""
    code = """
import pickle, random, sys
from tests.batteries.cell.test_hostile_cells import FORBIDDEN, pickled
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
pickle.loads(pickled(random.Random(0)))
assert set(seen) & set(FORBIDDEN) >= {"pickle.find_class"}, seen
"""
    done = python(code)
    (ROOT / CANARY).unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_half_a_million_empty_tensors_are_refused_at_once():
    blob = empties(random.Random(0), 500_000)
    facts = GOOD.manifest.file.model_copy(update={"size": len(blob), "sha256": canonical_json.sha256(blob)})
    with pytest.raises(BatteriesError) as caught:
        Cell.from_bytes(blob, GOOD.manifest.model_copy(update={"file": facts}), where="a cell")
    assert caught.value.code == "ST_HEADER"


@pytest.mark.parametrize("text", CODE)
def test_code_in_free_text_is_text(text):
    tree = json.loads(MANIFEST)
    tree["identity"]["description"] = tree["training"]["command"] = text
    data = canonical_json.dump(tree)
    cell = Cell.from_bytes(BYTES, Manifest.from_bytes(data, where="a manifest"), where="a cell")
    assert cell.manifest.identity.description == text
    assert cell.manifest.to_bytes() == data
