"""An encoding that stops, by an error, by Ctrl-C or by a kill, goes on where it was, and ends in the same bytes."""

import signal

import numpy as np
import pytest
import torch
from PIL import Image

import composer
from batteries.errors import InputError
from tests.support.cells import litter, python
from tests.support.encoding import cells, container, pictures


class StoppedError(Exception):
    """Raised by a test in the middle of a run."""


def stop_after(images):
    def progress(done):
        if done >= images:
            raise StoppedError("stopped by a test")

    return progress


@pytest.fixture(scope="module")
def model():
    return container()


@pytest.fixture
def wanted(model, tmp_path):
    path = tmp_path / "wanted.npz"
    composer.encode(model, pictures(), path, fit="crop", batch=2)
    return path.read_bytes()


def stopped(model, source, path, after=4, **more):
    with pytest.raises(StoppedError, match="stopped by a test"):
        composer.encode(model, source, path, **{"fit": "crop", "batch": 2, **more}, progress=stop_after(after))
    assert not path.exists()


def runs_of(monkeypatch):
    """Number of images of every group that a container is run on."""
    runs, forward = [], composer.Container.forward

    def counted(self, images, *more):
        runs.append(len(images))
        return forward(self, images, *more)

    monkeypatch.setattr(composer.Container, "forward", counted)
    return runs


@pytest.mark.parametrize("after", [1, 3, 4, 7])
def test_what_was_finished_is_not_run_again(model, wanted, tmp_path, monkeypatch, after):
    path = tmp_path / "t.npz"
    stopped(model, pictures(), path, after)
    runs = runs_of(monkeypatch)
    encoded = composer.encode(model, pictures(), path, fit="crop", batch=2)
    assert path.read_bytes() == wanted
    assert encoded.reused + sum(runs) == len(pictures())
    assert encoded.reused >= after
    assert not (tmp_path / ".t.npz.parts").exists()


def test_fresh_runs_everything(model, wanted, tmp_path):
    path = tmp_path / "t.npz"
    stopped(model, pictures(), path)
    assert composer.encode(model, pictures(), path, fit="crop", batch=2, fresh=True).reused == 0
    assert path.read_bytes() == wanted


CHANGES = {
    "an image": lambda m: (m, [*pictures()[:1], pictures(seed=9)[1], *pictures()[2:]], {}),
    "a cell": lambda m: (composer.compose([*cells()[:2]]), pictures(), {}),
    "tokens": lambda m: (m, pictures(), {"tokens": ("omega", "S")}),
    "framing": lambda m: (m, pictures(), {"fit": "resize", "size": 24}),
    "dtype": lambda m: (composer.compose(cells(), dtype=torch.float64), pictures(), {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_made_anew(model, tmp_path, change):
    stopped(model, pictures(), tmp_path / "t.npz", 2)
    other, source, settings = CHANGES[change](model)
    more = {"fit": "crop", "batch": 2, **settings}
    assert composer.encode(other, source, tmp_path / "t.npz", **more).reused == 0
    composer.encode(other, source, tmp_path / "apart.npz", **more)
    assert (tmp_path / "t.npz").read_bytes() == (tmp_path / "apart.npz").read_bytes()


def test_parts_are_of_no_format(model, wanted, tmp_path):
    stopped(model, pictures(), tmp_path / "t.npz", 7)
    parts = tmp_path / ".t.npz.parts"
    parts.rename(tmp_path / ".t.safetensors.parts")
    assert composer.encode(model, pictures(), tmp_path / "t.safetensors", fit="crop", batch=2).reused == 7


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer"])
def test_a_damaged_part_is_made_anew(model, wanted, tmp_path, damage):
    path = tmp_path / "t.npz"
    stopped(model, pictures(), path, 7)
    for part in (tmp_path / ".t.npz.parts").glob("*.tokens"):
        data = part.read_bytes()
        changed = {"cut": data[:-5], "flipped": bytes([data[0] ^ 1]) + data[1:], "longer": data + b"\0"}
        part.write_bytes(changed[damage])
    assert composer.encode(model, pictures(), path, fit="crop", batch=2).reused == 0
    assert path.read_bytes() == wanted


def test_the_same_image_twice_is_two_images(model, tmp_path):
    source = [pictures()[0]] * 3
    encoded = composer.encode(model, source, tmp_path / "t.npz", fit="crop", batch=1)
    assert len(encoded.record.images) == 3
    rows = np.load(tmp_path / "t.npz")["high/fine/omega"].reshape(3, -1)
    assert (rows == rows[0]).all()


def test_an_unreadable_image_is_named_and_what_was_finished_is_kept(model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, picture in enumerate(pictures()):
        Image.fromarray(picture).save(folder / f"{n}.png")
    whole = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(whole[:60])
    with pytest.raises(InputError, match=r"5\.png.*\[IMAGE\]"):
        composer.encode(model, folder, tmp_path / "t.npz", fit="crop", batch=2)
    (folder / "5.png").write_bytes(whole)
    assert composer.encode(model, folder, tmp_path / "t.npz", fit="crop", batch=2).reused == 4


KILLED = """
import os, signal, sys
import composer
from batteries.io.filesystem import Disk, use
from tests.support.encoding import container, pictures

class Killing(Disk):
    left = int(sys.argv[2])

    def write(self, descriptor, data):
        self.left -= 1
        if self.left == 0:
            super().write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(descriptor, data)

with use(Killing()):
    composer.encode(container(), pictures(), sys.argv[1], fit="crop", batch=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("write", [3, 12, 40])
def test_a_killed_process_goes_on_where_it_was(model, wanted, tmp_path, write):
    path = tmp_path / "t.npz"
    ended = python(KILLED, path, write)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not path.exists()
    assert litter(tmp_path)
    parts = [*(tmp_path / ".t.npz.parts").glob("*.tokens")]
    encoded = composer.encode(model, pictures(), path, fit="crop", batch=2)
    assert path.read_bytes() == wanted
    assert encoded.reused >= len(parts)
    assert bool(parts) == (write > 10)
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["t.npz", "wanted.npz"]


MEMORY = """
import resource, sys
import numpy as np
import composer
from tests.support.encoding import container

model = container()

def pictures(count):
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)

def peak(count):
    composer.encode(model, pictures(count), sys.argv[1], tokens=("omega", "S", "M"), batch=8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

first = peak(40)
print(peak(200) - first)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".parquet"])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    ended = python(MEMORY, path)
    assert ended.returncode == 0, ended.stderr
    assert path.stat().st_size > 100 * 2**20
    assert float(ended.stdout) < 40  # pyarrow's allocator keeps some; the file is 80 MB larger
