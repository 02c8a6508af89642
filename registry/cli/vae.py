"""``batteries vae``: battery VAEs are trained, sampled and shown. Torch is imported only when a command runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import batteries
import composer
import registry
from batteries.cell.cell import SUFFIX
from batteries.cell.manifest import NoiseMix
from batteries.errors import InputError
from batteries.io import atomic_files, file_pair
from batteries.text import unicode
from composer.artifact.vae.manifest import VAE, VaeManifest
from composer.vae.plan import VaePlan
from registry import reports
from registry.answers.answer import typed
from registry.answers.vae import SampledVae, ShownVae, TrainedVae, VaeParent
from registry.catalog.reference import Reference
from registry.cli.terminal.choices import choice
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json, emit_rows, say
from registry.cli.terminal.help import MAKE, App, Group
from registry.cli.terminal.options import (
    ArtifactLicense,
    ArtifactName,
    ArtifactVersion,
    MaybeDescription,
    Page,
    Seed,
    Threads,
    different,
    licensed,
    packed_label,
    photographs,
    refuse_no_folder,
    refuse_no_place,
    use,
)
from registry.cli.terminal.progress import VaeBar, working
from registry.reports.vae import vae_tables
from registry.transfer.pull import pull_cells

if TYPE_CHECKING:
    from batteries.data.probes import Probe
    from batteries.data.sources import Source
    from composer.vae.battery_vae import BatteryVAE

EXAMPLE = "batteries vae train high/johanna-64 high/fresnel-64 --noise --steps 200 \\\n  --out pair.safetensors"
MAX_PIXELS = 2**24  # of the images that are sampled together, in memory
KL = 1e-4  # as in composer.vae.plan
VaeReference = Annotated[str, typer.Argument(metavar="VAE|FILE", help="Published VAE, vae/NAME, or its file.")]
ProbeName = Annotated[str, typer.Option("--probe", metavar="NAME", help="Held-out images.")]

vaes = App(
    name="vae",
    cls=Group,
    help="Train battery VAEs, which start on cells; sample and show them.",
    epilog=EXAMPLE,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(vaes, rich_help_panel=MAKE)


@vaes.command(
    "train",
    rich_help_panel=MAKE,
    epilog=EXAMPLE,
)
def train_vae(
    context: typer.Context,
    references: Annotated[
        list[str], typer.Argument(metavar="REFERENCE...|VAE", help="Two cells or more; or a VAE, to go on with.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps.")],
    out: Annotated[Path, typer.Option(metavar="NAME.safetensors", help="Write the VAE, and NAME.json, for publish.")],
    noise: Annotated[
        NoiseMix | None,
        choice(NoiseMix, code="USAGE", metavar="[batteries|published]", help="Train on noise; no name: batteries."),
    ] = None,
    photos: Annotated[list[str] | None, typer.Option(metavar="PLACE", help="Train on photographs: a folder or a glob.")] = None,
    allow_probe_photos: Annotated[
        bool, typer.Option("--allow-probe-photos", help="Allow photographs that a probe contains.")
    ] = False,
    probe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Held-out images.", show_default="by the training images")
    ] = None,
    bottleneck: Annotated[int, typer.Option(metavar="N", min=1, help="Numbers of a code, a patch and sector.")] = 32,
    arrays: Annotated[int, typer.Option(metavar="N", min=1, help="Embedding arrays of a sector.")] = 2,
    size: Annotated[int, typer.Option(metavar="PIXELS", min=1, help="Side of the training images.")] = 64,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images per step.")] = 4,
    rate: Annotated[float, typer.Option(metavar="RATE", help="Peak learning rate.")] = 1e-3,
    kl: Annotated[float, typer.Option("--kl", metavar="X", help="Weight of the divergence.")] = KL,
    free: Annotated[float, typer.Option(metavar="NATS", help="Free nats of each number of a code.")] = 0.05,
    warm_up: Annotated[int, typer.Option("--warm-up", metavar="N", help="Steps until that weight is whole.")] = 100,
    discipline: Annotated[float, typer.Option(metavar="X", help="Weight of the Cayley-Menger term; or 0.")] = 0.1,
    every: Annotated[int, typer.Option(metavar="N", min=1, help="Steps between readings.")] = 100,
    seed: Seed = 0,
    name: ArtifactName = None,
    version: ArtifactVersion = None,
    license: ArtifactLicense = None,
    description: MaybeDescription = None,
    run: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the checkpoint, to resume from.")] = None,
    events: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write TensorBoard events.")] = None,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a battery VAE that starts on cells, and write it.

    With --run, the same command resumes after an interruption, to the same bits. A published VAE, or a file of one, is
    trained further.
    """
    use(context, threads)
    plan = typed(
        VaePlan,
        steps=steps,
        size=size,
        batch=batch,
        rate=rate,
        kl=kl,
        free=free,
        warm_up=warm_up,
        discipline=discipline,
        seed=seed,
        reading_every=every,
    )
    label = packed_label(VAE, out, name, version, license, description)
    file_pair.check_writable(out)
    source = _source(noise, photos)
    held = batteries.probe(probe or batteries.own_probe(source.facts.kind, size, source.facts.noise_mix))
    with working("starting"):
        vae, cells = _started(references, bottleneck, arrays, seed, registry_)
    with VaeBar(steps, out.stem) as bar, contextlib.ExitStack() as open_logs:
        log = [open_logs.enter_context(contextlib.closing(composer.vae.VaeEvents(events)))] if events else []
        composer.vae.train(vae, plan, source, held, folder=run, allow_probe_photos=allow_probe_photos, watchers=[bar, *log])
    assert label is not None, "out is required"
    manifest = composer.pack(vae, out, licensed(label, cells) if cells else label)
    assert isinstance(manifest, VaeManifest), "a battery VAE was packed"
    say(f"{manifest.path}@{manifest.identity.version}: {manifest.file.size} bytes in {out}")
    answer = TrainedVae(path=unicode(out), manifest=manifest, run=vae.history[-1])
    if as_json:
        emit_json(answer)
    else:
        widths = {sector: spec.D for sector, spec in vae.specs.items()}
        emit(vae_tables.sectors(answer.run.readings[-1], widths), wide=wide)


@vaes.command("sample", rich_help_panel=MAKE, epilog="batteries vae sample vae/pair --count 8 --out samples")
def sample_vae(
    context: typer.Context,
    reference: VaeReference,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Write FOLDER/sample-1.png and so on.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, max=4096, help="Number of images.")] = 8,
    size: Annotated[int, typer.Option(metavar="PIXELS", min=1, help="Side of the images.")] = 64,
    seed: Seed = 0,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Draw images from a battery VAE and write them as PNG.

    The codes of all patches are drawn on their own: images are textures.
    """
    use(context, threads)
    refuse_no_place(out)
    if count * size**2 > MAX_PIXELS:
        found = f"{count} images of {size} x {size}"
        raise InputError("too many pixels", code="SIZE", expected=f"at most {MAX_PIXELS} in all", found=found)
    vae = _vae(reference, registry_)
    paths = tuple(out / f"sample-{number}.png" for number in range(1, count + 1))
    with working(f"sampling {reference}"):
        for path, data in zip(paths, reports.sample_pictures(vae, count, seed, size), strict=True):
            atomic_files.replace(path, data)
    if as_json:
        emit_json(SampledVae(vae=unicode(reference), images=tuple(map(unicode, paths)), seed=seed))
    else:
        emit_rows([(path,) for path in paths])


@vaes.command("show", rich_help_panel=MAKE, epilog="batteries vae show vae/pair --html pair.html")
def show_vae(
    context: typer.Context,
    reference: VaeReference,
    probe: ProbeName = "photos-64",
    html: Page = None,
    seed: Seed = 0,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Read a battery VAE on a probe: error, divergence, active units, CV and weight of every sector.

    The page has reconstructions, samples, a map of which sector speaks where, and the CV of every sector along training.
    """
    use(context, threads)
    refuse_no_folder(html)
    held = batteries.probe(probe)
    vae = _vae(reference, registry_)
    with working(f"reading {reference}"):
        kl = vae.history[-1].plan.kl if vae.history else KL
        answer = shown(vae, unicode(reference), held, kl, None if html is None else unicode(html))
        if html is not None:
            images = held.images[:: max(1, len(held.images) // 6)]
            atomic_files.replace(html, reports.vae_page(vae, answer, images, seed).encode())
    if as_json:
        emit_json(answer)
    else:
        emit(vae_tables.fact_table(answer), vae_tables.sectors(answer.reading, answer.widths), wide=wide)


def shown(vae: BatteryVAE, name: str, probe: Probe, kl: float, page: str | None = None) -> ShownVae:
    """Read a model on a probe, and return all that is known of it."""
    linear_parameters, linear_multiply_adds = vae.cost().linear
    return ShownVae(
        vae=name,
        parameters=vae.cost().parameters,
        bottleneck=vae.width,
        arrays=vae.arrays,
        linear_parameters=linear_parameters,
        linear_multiply_adds=linear_multiply_adds,
        widths={sector: spec.D for sector, spec in vae.specs.items()},
        parents=tuple(
            VaeParent(name=sector, cell=row["cell"], version=row["version"], tensors=row["tensors"])
            for sector, row in vae.lock.items()
        ),
        probe=probe.name,
        kl=kl,
        reading=composer.vae.read(vae, probe, kl, sum(run.steps for run in vae.history)),
        history=vae.history,
        page=page,
    )


def _source(noise: NoiseMix | None, photos: list[str] | None) -> Source:
    if (noise is None) == (not photos):
        raise InputError("unclear training images", code="USAGE", expected="--noise or --photos", found="neither, or both")
    if photos:
        return batteries.PhotoSource(photographs(photos), "unknown", "unknown")
    return batteries.NoiseSource(mix=noise or "batteries")


def _started(
    texts: list[str], bottleneck: int, arrays: int, seed: int, registry_: str | None
) -> tuple[BatteryVAE, list[batteries.Cell]]:
    """Return the model before its training, and the cells that it is made of now; none for a VAE that is trained further."""
    if len(texts) == 1 and (texts[0].endswith(SUFFIX) or Reference.parse(texts[0]).band == VAE.name):
        return _vae(texts[0], registry_), []
    cells = pull_cells(*different(texts, "Leave one of them out.", registry_).values(), registry=registry_)
    return composer.BatteryVAE.from_cells(cells, bottleneck=bottleneck, arrays=arrays, seed=seed), cells


def _vae(text: str, registry_: str | None) -> BatteryVAE:
    """Load a published VAE, or a file of one.

    Raises:
        InputError: an artifact of another kind (``VAE``).
    """
    found: Any = composer.load(text) if text.endswith(SUFFIX) else registry.pull(text, registry=registry_)
    found = found[0] if isinstance(found, list | tuple) else found
    if not isinstance(found, composer.BatteryVAE):
        raise InputError("not a battery VAE", code="VAE", expected="vae/NAME, or its file", found=text)
    return found
