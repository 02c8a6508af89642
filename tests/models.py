"""Small composed models, made of untrained cells, and files that are almost ones."""

import dataclasses
import json

import torch
from torch import Tensor

from batteries import CellSpec, canonical
from batteries.cellfile import MODEL_START
from composer.wired import Wired, wire
from composer.wiring import Composition, Parallel, Relay, Route
from tests.making import from_model, tiny

FINE = CellSpec(V=6, D=4, patch_size=4, hidden=8, heads=2)
COARSE = CellSpec(V=6, D=4, patch_size=8, hidden=6, heads=2, depth=0)
WIDE = CellSpec(V=8, D=8, patch_size=8, hidden=6, heads=2)
SPECS = {"noise": FINE, "wide": WIDE, "photo": FINE, "low": COARSE, "low.2": COARSE}
NODES = {
    "swap": Relay(source="noise", target="low"),
    "lab/rows": Relay(source="low", target="low.2", tokens="rows"),
    "by.error": Route(of=("swap", "photo")),
    "by.router": Route(of=("noise", "lab/rows", "low"), by="router"),
    "all": Parallel(of=("by.router", "wide", "by.error")),
}


def images(count=8, seed=0) -> Tensor:
    """Images of 16 x 16 pixels."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def cells(specs=None):
    """Untrained cells of these specs, by name."""
    return {name: from_model(spec, seed, f"cell-{seed}") for seed, (name, spec) in enumerate((specs or SPECS).items())}


def model(dtype=torch.float32) -> Wired:
    """Five cells of three specs, two relays, two routes, aligned; ready to be used, not trained."""
    made = cells()
    references = {name: f"{cell.name}@{cell.version}" for name, cell in made.items()}
    composition = Composition(schema_version="1.0", output="all", cells=references, nodes=NODES)
    return wire(made, composition, images(), dtype=dtype).eval()


def least(name="only") -> Wired:
    """A model of one cell of about a kilobyte, and nothing else."""
    composition = Composition(schema_version="1.0", output=name, cells={name: "high/tiny@1.0.0"})
    return wire({name: tiny()}, composition).eval()


def tensors(value):
    """Every tensor in an output, in order."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name))
    elif hasattr(value, "items"):
        for _, item in value.items():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def same(first: Wired, second: Wired, batch: Tensor) -> bool:
    """Whether two models make the same of a batch, bit for bit, to the last node and cell."""
    with torch.no_grad():
        one, two = (list(tensors((out.output, out.nodes, out.cells))) for out in (first(batch), second(batch)))
    return len(one) == len(two) > 4 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def document(data: bytes) -> dict:
    """The document in a model's file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["svae-batteries.model"])


def sealed(value: dict) -> str:
    """A document with the right seal, whatever it says."""
    value = {key: field for key, field in value.items() if key != "seal"}
    return canonical.dump({**value, "seal": canonical.sha256(canonical.dump(value))}).decode()


def with_document(data: bytes, words: str, rows=None) -> bytes:
    """A model's file with another document, and with other rows of tensors where given."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    del header["__metadata__"]
    rest = json.dumps(rows or header, separators=(",", ":")).encode()
    return framed(MODEL_START + json.dumps(words, ensure_ascii=False).encode() + b"}," + rest[1:], data[8 + size :])


def framed(header: bytes, body: bytes) -> bytes:
    """A header, padded as the writer does, and data."""
    header = header.ljust(-(-(8 + len(header)) // 64) * 64 - 8)
    return len(header).to_bytes(8, "little") + header + body
