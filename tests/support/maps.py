"""Small maps between untrained cells, and files that are almost ones."""

import dataclasses
import json

import torch

from batteries.io import canonical_json
from composer import align, compose, procrustes
from composer.alignment.align import paired
from composer.artifact.kinds import FORMS
from composer.artifact.maps.manifest import MAPS
from composer.container.container import Container
from composer.procrustes.consensus import Consensus
from composer.procrustes.generalized import Frame
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.similarity import Alignment
from composer.sealed import file_format
from tests.support.models import cells, framed, images


def container() -> Container:
    """Five cells of three specs and two widths."""
    return compose(cells())


def consensus(of: Container, kind="omega") -> Consensus:
    """Their maps into one frame."""
    return align(of, images(), tokens=kind)


def masked(found: Consensus) -> Consensus:
    """The same, with a frame whose last rows no cell has."""
    rows = found.frame.rows.clone()
    rows[-3:] = False
    tokens = found.frame.tokens * rows[:, None]
    maps = tuple(
        dataclasses.replace(one, paired=one.paired - 3, pairing=dataclasses.replace(one.pairing, target=digest_of(tokens)))
        for one in found.maps
    )
    return dataclasses.replace(found, maps=maps, frame=Frame(tokens, rows, found.frame.residual))


def direct(of: Container, source="noise", target="wide", **choices) -> Alignment:
    """The map of one cell's omega to another's."""
    tokens, grid = paired(of, images(), "omega", "coarsest")
    found = procrustes.fit(*(tokens[name].flatten(0, 1) for name in (source, target)), **{"unequal": "pad", **choices})
    pairing = Pairing("omega", grid, digest_of(images()), of.ends[source], of.ends[target])
    return dataclasses.replace(found, pairing=pairing)


def same(first, second) -> bool:
    """Whether two values are the same to the last bit, whatever is in them."""
    if torch.is_tensor(first):
        return first.dtype == second.dtype and torch.equal(first.nan_to_num(7.0), second.nan_to_num(7.0))
    if dataclasses.is_dataclass(first):
        fields = (field.name for field in dataclasses.fields(first))
        return type(first) is type(second) and all(same(getattr(first, name), getattr(second, name)) for name in fields)
    if isinstance(first, tuple) and first and not isinstance(first[0], str | int):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def document(data: bytes) -> dict:
    """The document in a file of maps."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["svae-batteries.maps"])


def with_document(data: bytes, words: str) -> bytes:
    """A file of maps with another document, and the same tensors."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    del header["__metadata__"]
    rows = json.dumps(header, separators=(",", ":")).encode()
    return framed(MAPS.start + json.dumps(words, ensure_ascii=False).encode() + b"}," + rows[1:], data[8 + size :])


def resealed(value: dict) -> str:
    """A document with the right seal, whatever it says."""
    value = {key: field for key, field in value.items() if key != "seal"}
    return canonical_json.dump({**value, "seal": canonical_json.sha256(canonical_json.dump(value))}).decode()


def forged(data: bytes, **arrays) -> bytes:
    """A file of maps with other tensors, right in every digest."""
    opened = FORMS["maps"].open(data, where="the maps to be forged")
    found = {name: arrays.get(name, opened.array(name)) for name in opened.layout}
    said = opened.document
    fields = {name: getattr(said, name) for name in type(said).model_fields if name not in {"blocks", "seal"}}
    return b"".join(bytes(part) for part in file_format.write(type(said), fields, found)[1])
