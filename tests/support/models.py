"""Small composed models, made of untrained cells, and files that are almost ones."""

import dataclasses
import json

import numpy as np
import torch
from torch import Tensor

from batteries import CellSpec
from batteries.io import canonical_json
from composer.artifact.kinds import FORMS
from composer.artifact.model.manifest import MODEL
from composer.sealed import block_digests
from composer.sealed import file_format as sealing
from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel, Relay, Route
from composer.wiring.wired_model import Wired, wire
from tests.support.cells import from_model, tiny

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
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 16, 16, generator=generator, dtype=torch.float32, device="cpu")


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
    return canonical_json.dump({**value, "seal": canonical_json.sha256(canonical_json.dump(value))}).decode()


def with_document(data: bytes, words: str, rows=None) -> bytes:
    """A model's file with another document, and with other rows of tensors where given."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    del header["__metadata__"]
    rest = json.dumps(rows or header, separators=(",", ":")).encode()
    return framed(MODEL.start + json.dumps(words, ensure_ascii=False).encode() + b"}," + rest[1:], data[8 + size :])


def forged(data: bytes, arrays=None, **update) -> bytes:
    """A model's file with other fields and arrays, right in every digest, whether or not there can be such a model."""
    opened = FORMS["model"].open(data, where="the model to be forged")
    artifact = opened.document.model_copy(update=update)
    places = sealing.layout(artifact)
    given = arrays or {}
    found = {name: given[name] if name in given else opened.array(name) for name in places}
    whole = (np.ascontiguousarray(array, sealing.NUMPY[places[name].dtype]) for name, array in found.items())
    body = b"".join(array.tobytes() for array in whole)
    artifact = artifact.model_copy(update={"blocks": tuple(block_digests.digests([memoryview(body)]))})
    artifact = artifact.model_copy(update={"seal": artifact.digest()})
    return sealing.header(artifact, places) + body


def forgeries(data: bytes) -> dict[str, bytes]:
    """Files that are right in every digest, of models that cannot be put together."""
    said = FORMS["model"].open(data, where="").document
    narrow = {"frame.tokens": np.zeros((said.frame.rows, 2)), **_map("frame", 2, len(said.frame.maps))}
    other = _map(f"relays.{sorted(said.relays).index('swap')}", 3)
    swap = said.relays["swap"].model_copy(update={"width": 3})
    shapes = said.routers["by.router"]
    larger = {**shapes, "layers.0.weight": (32, shapes["layers.0.weight"][1] + 1)}
    renamed = {name.replace("layers.2", "layers.1"): shape for name, shape in shapes.items()}
    unequal = {**said.composition.nodes, "swap": Relay(source="noise", target="wide")}
    return {
        "a frame narrower than its cells": forged(data, narrow, frame=said.frame.model_copy(update={"width": 2})),
        "a relay of another width": forged(data, other, relays={**said.relays, "swap": swap}),
        "a router of another shape": forged(
            data, {"routers.0.layers.0.weight": np.zeros(larger["layers.0.weight"])}, routers={"by.router": larger}
        ),
        "a router of other names": forged(
            data, {f"routers.0.{name}": np.zeros(shape) for name, shape in renamed.items()}, routers={"by.router": renamed}
        ),
        "a relay between unequal cells": forged(data, composition=said.composition.model_copy(update={"nodes": unequal})),
    }


def _map(prefix, width, count=None):
    """The tensors of a map, or of several, that changes nothing."""
    outer = () if count is None else (count,)
    rotation = np.broadcast_to(np.eye(width), (*outer, width, width))
    nothing = {f"{prefix}.{part}": np.zeros((*outer, width)) for part in ("centre", "translation")}
    return {f"{prefix}.rotation": rotation, **nothing}


def framed(header: bytes, body: bytes) -> bytes:
    """A header, padded as the writer does, and data."""
    header = header.ljust(-(-(8 + len(header)) // 64) * 64 - 8)
    return len(header).to_bytes(8, "little") + header + body
