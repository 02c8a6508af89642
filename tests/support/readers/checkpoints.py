"""Readers of checkpoints: foreign ones in two formats, and those of trainings."""

import io
import json
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn
from torch.optim import Optimizer

from batteries import CellSpec, NoiseSource, Plan
from batteries.packaging.checkpoint_places import local_file
from batteries.packaging.foreign_cell import adoptable
from batteries.training import checkpoint
from batteries.training.run import Run
from batteries.training.trainer import train
from composer.vae.training import VaeRun
from composer.vae.training import train as train_vae
from tests.support import vaes
from tests.support.checkpoints import state
from tests.support.mutations import text_mutant
from tests.support.readers.documents import folder
from tests.support.readers.reader import Reader, padded
from tests.support.readers.sealed_files import header_of
from tests.support.viability import one_of_a_group

SPEC = CellSpec.preset("high", V=8, patch_size=8, hidden=4, smooth_width=2, depth=1, cross_layers=1)
CONFIG = {"V": 8, "D": 4, "patch_size": 8, "hidden": 4, "depth": 1, "n_cross_layers": 1, "img_size": 64, "n_heads": 2}
OPTIONS: dict[str, Any] = {"heads": 2}


def a_file(path: Path, read: Callable[[], object]) -> Callable[[bytes], bytes]:
    """Read what a file has; a checkpoint is not written again."""

    def taken(data: bytes) -> bytes:
        path.write_bytes(data)
        read()
        return data

    return taken


def foreign(name: str) -> Callable[[bytes], bytes]:
    path = folder() / name
    return a_file(path, lambda: adoptable(local_file(path), options={}))


def torch_archive() -> Reader:
    """A ``.pt`` file, of whose pickle the mutants are made, and the entries beside the weights."""
    shapes = {name: list(tensor.shape) for name, tensor in state(SPEC).items()}
    good = {"config": CONFIG, "epoch": 3, "model_state_dict": shapes, "losses": [0.5, 0.25]}
    storage = bytes(4 * max(tensor.numel() for tensor in state(SPEC).values()))
    names = [f"archive/data/{n}" for n in range(len(shapes) + 4)]

    def program(value: Any) -> bytes:
        """The pickle that torch writes of a tree, whose lists of small counts become tensors of that shape."""
        tree = {**value, "model_state_dict": _tensors(value.get("model_state_dict"))} if isinstance(value, dict) else value
        whole = io.BytesIO()
        try:
            torch.save(tree, whole)
        except (UnicodeError, OverflowError, RecursionError, ValueError, RuntimeError):
            return pickle.dumps(repr(tree))
        with zipfile.ZipFile(whole) as archive:
            return archive.read("archive/data.pkl")

    def archive(text: bytes, rng: random.Random) -> bytes:
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as made:
            made.writestr("archive/data.pkl", text)
            made.writestr("archive/byteorder", "little")
            for name in names:
                made.writestr(name, storage)
        return text_mutant(whole.getvalue(), rng) if rng.random() < 0.1 else whole.getvalue()

    return Reader(program(good), archive, program, foreign("foreign.pt"), lambda text: json.loads(json.dumps(good)))


def _tensors(shapes: Any) -> Any:
    if not isinstance(shapes, dict):
        return shapes
    return {name: torch.zeros(shape) if _is_shape(shape) else shape for name, shape in shapes.items()}


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value) and math.prod(value) < 2**14


def foreign_safetensors() -> Reader:
    good = save(dict(state(SPEC)), {"config": json.dumps(CONFIG)})
    header = header_of(good)
    return Reader(header, _before(good[8 + len(header) :]), padded, foreign("foreign.safetensors"))


def _before(body: bytes) -> Callable[[bytes, random.Random], bytes]:
    """A header in front of the numbers, which are sometimes damaged too, as the size of the header is."""

    def made(header: bytes, rng: random.Random) -> bytes:
        size = rng.choice([len(header)] * 9 + [2**31])
        numbers = text_mutant(body, rng) if rng.random() < 0.1 else body
        return struct.pack("<Q", size) + header + numbers

    return made


def of_training(run: Run | VaeRun, model: nn.Module, optimisers: Sequence[Optimizer], path: Path) -> Reader:
    """A checkpoint with its digest put right, whatever became of the rest: so that what reads it has to say no."""
    good = path.read_bytes()
    before = _before(good[8 + len(header_of(good)) :])
    rows = json.loads(header_of(good))
    state = rows["__metadata__"][checkpoint.KEY]

    def file(header: bytes, rng: random.Random) -> bytes:
        data = before(header, rng)
        place = checkpoint.DIGEST_FIELD.search(header)
        if place is None or rng.random() < 0.1:
            return data
        return checkpoint._with_digest(checkpoint._digest_replaced(data, place, checkpoint.NO_DIGEST))

    def with_state(value: Any) -> bytes:
        return padded({**rows, "__metadata__": {**rows["__metadata__"], checkpoint.KEY: json.dumps(value)}})

    def resume() -> None:
        run.restore(checkpoint.read(path, model, optimisers, run.identity), where=path)

    return Reader(header_of(good), file, with_state, a_file(path, resume), lambda header: json.loads(state))


def training() -> Reader:
    probe, place = one_of_a_group("noise16-64"), folder() / "run"
    spec = CellSpec.preset("high", V=8, patch_size=16, hidden=4, smooth_width=2, depth=1, cross_layers=1)
    plan = Plan(spec=spec, size=64, steps=1, batch=2, reading_every=1, checkpoint_every=1)
    run = train(plan, NoiseSource(), probe, folder=place)
    return of_training(run, run.model, run.optimisers, place / "checkpoint.safetensors")


def vae_training() -> Reader:
    plan, place = vaes.PLAN.model_copy(update={"steps": 1, "reading_every": 1, "checkpoint_every": 1}), folder() / "vae-run"
    run = train_vae(vaes.vae(bottleneck=2, arrays=1), plan, NoiseSource(), vaes.probe(), folder=place)
    return of_training(run, run.vae, [torch.optim.Adam(run.vae.parameters())], place / "checkpoint.safetensors")


CHECKPOINTS: dict[str, Callable[[], Reader]] = {
    "foreign checkpoint (.pt)": torch_archive,
    "foreign checkpoint (.safetensors)": foreign_safetensors,
    "checkpoint of a training": training,
    "checkpoint of a VAE's training": vae_training,
}
