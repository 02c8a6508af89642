"""Photographs that show what a probe shows are found and refused in training, and a manifest that was allowed them says so."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from batteries import CellSpec, MixedSource, NoiseSource, PhotoSource, Plan, probe, read_photos, train
from batteries.cell.manifest import DataSource
from batteries.data.photograph_overlap import shown_by
from batteries.data.photos import _pyramid
from batteries.data.probes import photographs
from batteries.errors import PolicyError
from batteries.images.decoding import read_image
from tests.compatibility import refused

NAMES = ("chelsea", "creek", "coffee")
PATHS = {path.stem: path for path in photographs() if path.stem in NAMES}
TINY = CellSpec(V=6, D=4, patch_size=4, hidden=8, depth=1, cross_layers=1, smooth_width=2)


def scaled(picture, factor):
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)


def encoded(picture, form, **options):
    written = io.BytesIO()
    picture.save(written, form, **options)
    return Image.open(written).convert("RGB")


def on_a_page(picture):
    page = Image.fromarray(np.random.default_rng(0).integers(90, 160, (700, 1000, 3), np.uint8))
    page.paste(scaled(picture, 0.8), (300, 150))
    return page


CHANGED = {
    "the same": lambda p: p,
    "JPEG 40": lambda p: encoded(p, "JPEG", quality=40),
    "WebP at 0.6, turned": lambda p: encoded(scaled(p, 0.6).rotate(90, expand=True), "WEBP", quality=50),
    "a quarter of the size": lambda p: scaled(p, 0.25),
    "twice the size": lambda p: scaled(p, 2),
    "gray": lambda p: p.convert("L").convert("RGB"),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned and mirrored": lambda p: p.transpose(Image.Transpose.TRANSVERSE),
    "half of it, at 1.6": lambda p: scaled(p.crop((60, 60, 60 + p.width // 2, 60 + p.height // 2)), 1.6),
    "brighter and flatter": lambda p: p.point(lambda value: int(value * 0.7) + 60),
    "in a larger picture": on_a_page,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGED)
def test_a_photograph_of_a_probe_is_known_however_it_was_changed(change):
    for name, path in PATHS.items():
        assert shown_by(_pyramid(CHANGED[change](read_image(path)))) == name


@pytest.mark.slow
def test_the_images_of_a_probe_are_known_as_files_of_their_own():
    shown = probe("photos-64")
    known = 0
    for place in range(0, len(shown.images), 9):
        pixels = ((shown.images[place] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        picture = encoded(Image.fromarray(pixels), "JPEG", quality=85)
        expected = shown.groups[int(shown.group[place])]
        found = shown_by(_pyramid(picture))
        assert found in (expected, None)
        known += found == expected
    assert known >= 9  # of 11: a clear sky has nothing to be known by


@pytest.mark.slow
def test_other_pictures_show_nothing_of_a_probe():
    rng = np.random.default_rng(0)
    others = [
        Image.effect_noise((300, 200), 60).convert("RGB"),
        Image.linear_gradient("L").convert("RGB"),
        Image.radial_gradient("L").convert("RGB"),
        Image.new("RGB", (64, 64), "white"),
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((400, 300), Image.Resampling.BICUBIC),
        Image.fromarray(np.kron(rng.integers(0, 2, (30, 30)), np.ones((8, 8))).astype(np.uint8) * 255).convert("RGB"),
        Image.new("RGB", (3, 500)),
    ]
    assert [shown_by(_pyramid(picture)) for picture in others] == [None] * len(others)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    read_image(PATHS["chelsea"]).crop((100, 50, 400, 280)).save(folder / "cat.jpg", quality=80)
    Image.effect_noise((120, 90), 50).convert("RGB").save(folder / "noise.png")
    return PhotoSource(read_photos(folder), "CC0-1.0", "made here")


def plan(**changes):
    return Plan(spec=TINY, size=16, steps=2, batch=4, reading_every=2, checkpoint_every=2, triage_step=1000, **changes)


@pytest.mark.slow
@refused("Images", "Training on photographs that a probe shows", "PROBE_PHOTOS")
@pytest.mark.parametrize("mixed", [False, True])
def test_training_on_them_is_refused_unless_it_is_allowed(source, mixed, monkeypatch):
    chosen = MixedSource(source, 0.25) if mixed else source
    with pytest.raises(PolicyError, match=r"cat\.jpg shows chelsea") as caught:
        train(plan(), chosen, probe("noise16-64"))
    assert caught.value.code == "PROBE_PHOTOS"
    assert "--allow-probe-photos" in caught.value.remedy
    assert train(plan(), chosen, "noise16-64", allow_probe_photos=True).step == 2


def test_a_manifest_says_so_and_others_keep_their_bytes(source):
    facts = source.facts
    assert facts.probe_photographs == ("chelsea",)
    assert DataSource.model_validate_json(facts.to_bytes()) == facts
    assert b"probe_photographs" not in NoiseSource().facts.to_bytes()
    assert MixedSource(source, 0.5).facts.probe_photographs == ("chelsea",)


def test_a_source_of_ones_own_may_say_so_itself():
    class Own(NoiseSource):
        @property
        def facts(self):
            return super().facts.model_copy(update={"probe_photographs": ("coffee",)})

    with pytest.raises(PolicyError, match="coffee"):
        train(plan(), Own(), "noise16-64")


def test_a_user_s_random_state_and_threads_are_left_alone(source):
    before = torch.random.get_rng_state()
    shown_by(source.photos.pyramids[0])
    assert torch.equal(before, torch.random.get_rng_state())
