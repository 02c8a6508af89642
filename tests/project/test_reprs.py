"""A prompt shows every public object, and all that public functions return, in few lines and without computing."""

import importlib
import inspect
import json
import re
import socket
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch

import batteries
import composer
import registry
from batteries import diagnostics
from batteries.data.photos import Photos
from batteries.data.probes import Probe, probe
from batteries.diagnostics.diagnosis.sections import Setting
from batteries.errors import FormatError
from batteries.images.image_batch import ScaleWarning
from batteries.measurement.baselines import LinearCode
from batteries.training.trainer import train
from composer.adaptation import AdaptMoment, OwnDomain
from composer.container.outputs import TAPS
from composer.credit import LocalPass
from composer.hosts import FrozenCell, NamingHost, ResidualMLP, RestoringHost, StreamForm
from registry.catalog.release import RELEASES
from registry.stores.snapshot import open_snapshot
from registry.transfer.lockfile import Lock
from registry.transfer.remarks import attest, yank
from tests.support import vaes
from tests.support.cells import attestation, filled, from_model, publish, tiny
from tests.support.credit import batches, mlp, samples
from tests.support.models import cells, images, model
from tests.support.signing import signing

ROOT = Path(__file__).parents[2]
PUBLIC = json.loads((ROOT / "tests" / "golden" / "names.json").read_text())
MOST_LINES, MOST_CHARACTERS = 20, 2000
DUMP = re.compile(r"tensor\(|array\(|(-?\d+\.\d+(e-?\d+)?,? +){5}")
PLAIN = {  # return a number, a text, a tensor, nothing, or an iterator of what another returns
    "batteries": "expected_band own_probe threads",
    "batteries.geometry": "band clustered_mean effective_rank holds holm on_attractor radius_error sphere_cv uniform_angle",
    "batteries.images": "files from_input load to_input",
    "batteries.noise": "of_types random_batch",
    "batteries.readout": "fit logistic_accuracy name_noise omega_statistics",
    "composer": "draw",
    "composer.audit": "batched decisions frozen_blocks",
    "composer.credit": "deep_cosine loss_decrease nudging train true_signals",
    "composer.alignment": "untrained_for",
    "composer.hosts": "residual_host",
    "registry": "page",
}
SAME = {  # return what another function or class of the table is or makes
    "batteries": "adopt codebook measure untrained read_photos package probe train",
    "batteries.diagnostics": "diagnose modes",
    "batteries.geometry": "axial_cv bulk_cv",
    "batteries.images": "stream",
    "composer": "adapt load save",
    "composer.adaptation": "adapt denoising naming next_label own_domain",
    "composer.credit": "cifar_task digit_task noise_task photograph_task rule_of seeded through_cells",
    "composer.procrustes": "map_into",
    "composer.vae": "read train",
    "registry": "attest certify current_certificate load measure_again mirror open_store publish publish_all pull_locked "
    "validate verify_store yank",
}
ABSTRACT = {"ArtifactForm", "Artifact", "PackedRelease", "Mirrored", "Release"}  # made below, of a class of their own


def task():
    some, targets = torch.randn(8, 3, 16, 16), torch.arange(8) % 2
    return registry.Task("tell halves apart", (some[:4], targets[:4]), (some[4:], targets[4:]))


def few_photos():
    pyramids = tuple((torch.zeros(3, 16, 16, dtype=torch.uint8),) for _ in range(40))
    return Photos(tuple(f"photo-{n}.png" for n in range(40)), pyramids, "a" * 64, ())


def of_diagnostics(spec, net, batch, small):
    """Public objects of batteries.diagnostics, by the name of what makes them."""
    modes = diagnostics.modes(net, small.images, small.group, small.cluster)
    inspected = diagnostics.inspect(net, batch)
    compared = diagnostics.compare(inspected, diagnostics.inspect(batteries.untrained(spec, 1), batch))
    figure = inspected.columns[0].figures[0]
    finding = diagnostics.Finding(figure, 0.4, 0.6)
    verdict = diagnostics.Verdict("generalist", "known laws", ratios=())
    none: dict[str, tuple[()]] = dict.fromkeys(("untrained", "pictures", "maps"), ())
    diagnosis = diagnostics.Diagnosis(
        spec, Setting(), (finding,), verdict, linear="generalist", linear_width=4, confusion=batch, inspection=inspected, **none
    )
    return {
        "batteries.diagnostics.Diagnosis": diagnosis,
        "batteries.diagnostics.Finding": finding,
        "batteries.diagnostics.Verdict": verdict,
        "batteries.diagnostics.Column": inspected.columns[0],
        "batteries.diagnostics.ComparedRow": compared.rows[0],
        "batteries.diagnostics.Comparison": compared,
        "batteries.diagnostics.Contrast": compared.rows[0].contrast,
        "batteries.diagnostics.Definition": figure.definition,
        "batteries.diagnostics.Figure": figure,
        "batteries.diagnostics.Inspection": inspected,
        "batteries.diagnostics.InspectionWatcher": diagnostics.InspectionWatcher(batch),
        "batteries.diagnostics.Stages": diagnostics.stages(net, batch),
        "batteries.diagnostics.compare": compared,
        "batteries.diagnostics.estimated": figure,
        "batteries.diagnostics.inspect": inspected,
        "batteries.diagnostics.jackknifed": figure,
        "batteries.diagnostics.stages": diagnostics.stages(net, batch),
        "batteries.diagnostics.ModeChange": modes.changes[0],
        "batteries.diagnostics.ModeCorrelation": modes.correlations[0],
        "batteries.diagnostics.Modes": modes,
    }


def of_vaes(folder):
    """Objects of battery VAEs."""
    vae, small = vaes.vae(), vaes.probe()
    run = composer.vae.train(vae, vaes.PLAN, batteries.NoiseSource(), small, until=2)
    out = vae(vaes.images())
    label = composer.artifact.PackedLabel(name="three", version="1.0.0", license="MIT", description="made " * 40)
    found = {
        "BatteryVAE": vae,
        "Code": out.codes[0],
        "Cost": vae.cost(),
        "Decoded": out.decoded,
        "SectorReading": run.readings[0].sectors[0],
        "StepTerms": composer.vae.StepTerms(0.123456, 0.123456, 9.123456, 0.123456, 0.123456),
        "TrainedRun": vae.history[0],
        "VaeEvents": composer.vae.VaeEvents(folder / "vae-events"),
        "VaeOutput": out,
        "VaePlan": vaes.PLAN,
        "VaeReading": run.readings[0],
        "VaeRun": run,
    }
    return {
        **{f"composer.vae.{name}": value for name, value in found.items()},
        "composer.BatteryVAE": vae,
        "composer.artifact.VaeManifest": composer.pack(vae, folder / "three.safetensors", label),
        "composer.artifact.SavedVae": composer.read(folder / "three.safetensors"),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Public objects, and results of public functions, by the name of what makes them."""
    folder = tmp_path_factory.mktemp("made")
    wired, batch = model(), images()
    container, sample = wired.container, torch.randn(4, 3, 16, 16)
    frozen = FrozenCell(container, "noise")
    label = composer.artifact.PackedLabel(name="five", version="1.0.0", license="Apache-2.0", description="made " * 40)
    maps = composer.pack(container.consensus, folder / "maps.safetensors", label, lock=container.lock)
    packed = composer.pack(wired, folder / "model.safetensors", label)
    table = composer.compare(container, batch, untrained=1)
    audited, watcher = composer.audit.audit(mlp(), batches()), composer.audit.AuditWatcher(batches())
    spec = batteries.CellSpec(V=8, D=4, patch_size=8, hidden=4)
    net = batteries.untrained(spec, 0)
    one = from_model(spec, 0, "one")
    encoded = composer.encode(one, sample, folder / "tokens.npz", scale="noise")
    reconstructed = composer.reconstruct(one, sample, folder / "grid.png", scale="noise")
    noise = probe("noise16-64")
    small = Probe("noise16-64", 1, "noise", noise.images[::8, :, :16, :16], noise.group[::8], noise.groups, noise.digest)
    plan = batteries.Plan(spec=spec, size=16, steps=2, batch=2, reading_every=1, checkpoint_every=1, triage_step=1)
    photos = few_photos()
    source = batteries.PhotoSource(photos, "CC0-1.0", "made here")
    store = registry.MemoryStore()
    publication = publish(tiny(), store)
    publish(folder / "model.safetensors", store)
    report = attestation(tiny())
    attest(report, store)
    found = registry.find(registry=store)
    matrices = torch.randn(32, 8, 4)
    own = batteries.geometry.cv(matrices, torch.arange(32) // 8)
    pair, form = table.pairs[0], StreamForm()
    held = batteries.geometry.Held(1.0, 0.9, 1.1, True)
    moment = AdaptMoment(25, 1e-3, 0.94, held, held, 0.01, ("content 0.940 kept, at least 0.95 wanted",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", registry.YankedWarning)
        pulled = registry.pull("high/tiny", registry=store)
    shown = {
        **of_diagnostics(spec, net, batch, small),
        "batteries.Cell": pulled[0],
        "batteries.CellSpec": spec,
        "batteries.Events": batteries.Events(folder / "events"),
        "batteries.HubRepository": batteries.HubRepository("me/one", token="hf_secret"),
        "batteries.InputScale": tiny().manifest.identity.input,
        "batteries.Label": batteries.Label(name="one", version="1.0.0", family="johanna", license="MIT", description="x" * 500),
        "batteries.Manifest": tiny().manifest,
        "batteries.MixedSource": batteries.MixedSource(source, 0.25),
        "batteries.NoiseSource": batteries.NoiseSource(),
        "batteries.PatchSVAE": net,
        "batteries.PhotoSource": source,
        "batteries.Photos": photos,
        "batteries.Plan": plan,
        "batteries.Probe": noise,
        "batteries.Run": train(plan, batteries.NoiseSource(), small),
        "batteries a measured cell": tiny().manifest.own,
        "batteries tokens": net.tokens(batch),
        "batteries encoded": net.encode(batch),
        "batteries an output": net(batch),
        "batteries a linear code": LinearCode(torch.zeros(3072), torch.zeros(3072, 3072), "40 patches"),
        "batteries.geometry.cv": own,
        "batteries.geometry.Estimate": own,
        "batteries.geometry.Held": batteries.geometry.Held(1.0, 0.9, 1.1, True),
        "batteries.geometry.Codebook": (book := batteries.geometry.Codebook.of_rows(torch.eye(40))),
        "batteries.CodebookReading": batteries.CodebookReading(book, 0.01, 0.9, own, own, own),
        "batteries.geometry.Degenerate": batteries.geometry.Degenerate("flat rows", 3, 4),
        "batteries.images.ReadImage": batteries.images.ReadImage("one.png", batch[0], (16, 16)),
        "batteries.readout.ReadOut": batteries.readout.ReadOut.of(torch.randn(40, 6), torch.arange(40) % 4),
        "composer.Adapted": composer.Adapted(one, one, task(), ResidualMLP(8, 4, form), own, (moment,) * 40, "finished"),
        "composer.Encoded": encoded,
        "composer.Hold": composer.Hold(),
        "composer.adaptation.AdaptMoment": moment,
        "composer.adaptation.OwnDomain": OwnDomain(source, batch, torch.arange(len(batch)), "noise"),
        "composer.hosts.Task": task(),
        "composer.hosts.TaskSize": composer.hosts.TaskSize(),
        "composer.encode": encoded,
        "composer.Reconstructed": reconstructed,
        "composer.reconstruct": reconstructed,
        "composer.CellOutput": container(batch)["noise"],
        "composer.Classifier": composer.Classifier(container, sample, 4),
        "composer.Composition": wired.composition,
        "composer.Container": container,
        "composer.ContainerOutput": container(batch, TAPS),
        "composer.Denoiser": composer.Denoiser(container, sample),
        "composer.Parallel": composer.Parallel(of=tuple(f"cell-{n}" for n in range(100))),
        "composer.Relay": composer.Relay(source="a", target="b"),
        "composer.Route": composer.Route(of=("a", "b")),
        "composer.Wired": wired,
        "composer.wire": wired,
        "composer.compose": composer.compose(list(cells().values())),
        "composer.WiredOutput": wired(batch),
        "composer nodes": dict(wired(batch).nodes),
        "composer an explanation": container.explain((16, 16)),
        "composer.align": composer.align(container, batch),
        "composer.join": container.consensus,
        "composer.compare": table,
        "composer.spectra": composer.spectra(container, batch),
        "composer.swap": composer.swap(container, "low", "low.2", batch),
        "composer.pack": packed,
        "composer.read": composer.read(folder / "model.safetensors"),
        **of_vaes(folder),
        "composer.alignment.PairScore": pair,
        "composer.alignment.PairTable": table,
        "composer.alignment.Spectrum": composer.spectra(container, batch)["low"],
        "composer.alignment.Swap": composer.swap(container, "low", "low.2", batch),
        "composer.alignment.Through": pair.through,
        "composer.artifact.MapsManifest": maps,
        "composer.artifact.ModelManifest": packed,
        "composer.artifact.PackedLabel": label,
        "composer.artifact.SavedMaps": composer.read(folder / "maps.safetensors"),
        "composer.artifact.kinds": composer.artifact.kinds.FORMS,
        "composer.audit.AuditReport": audited,
        "composer.audit.AuditWatcher": watcher,
        "composer.audit.AuditedRun": composer.audit.AuditedRun(audited, 0.1, 0.5),
        "composer.audit.Baseline": composer.audit.Baseline.of(mlp(), batches()),
        "composer.audit.Diagnostic": audited.of("a"),
        "composer.audit.StateReading": audited.states[1],
        "composer.audit.Thresholds": composer.audit.Thresholds(),
        "composer.audit.audit": audited,
        "composer.audit.sensitivity": composer.audit.sensitivity([audited], composer.audit.Thresholds())[0],
        "composer.audit.utility": composer.audit.utility([])[0],
        "composer.credit.Backpropagation": composer.credit.Backpropagation(),
        "composer.credit.CreditBridge": composer.credit.CreditBridge(mlp(), samples()[0], 6, 0),
        "composer.credit.CreditPlan": composer.credit.CreditPlan(),
        "composer.credit.CreditTask": composer.credit.noise_task((1, 1)),
        "composer.credit.DirectFeedback": composer.credit.DirectFeedback(mlp(), samples()[0], 6, 0),
        "composer.credit.EquilibriumPropagation": composer.credit.EquilibriumPropagation(),
        "composer.credit.FeedbackAlignment": composer.credit.FeedbackAlignment(mlp(), 0),
        "composer.credit.FreshNull": composer.credit.FreshNull(0.1, 0.0, 0.01, 20),
        "composer.credit.FrozenBlocks": composer.credit.FrozenBlocks(),
        "composer.credit.LocalPass": LocalPass.of(mlp(), *samples()),
        "composer.credit.StateBridge": composer.credit.StateBridge(mlp(), samples()[0]),
        "composer.credit.fresh_null": composer.credit.FreshNull(0.1, 0.0, 0.01, 20),
        "composer.hosts.ConvNet": composer.hosts.ConvNet(4, composer.hosts.ImageForm()),
        "composer.hosts.FrozenCell": frozen,
        "composer.hosts.ImageForm": composer.hosts.ImageForm(),
        "composer.hosts.VisionTransformer": composer.hosts.VisionTransformer(4, composer.hosts.ImageForm()),
        "composer.hosts.NamingHost": NamingHost(frozen, sample, 4, StreamForm()),
        "composer.hosts.ResidualMLP": composer.hosts.ResidualMLP(8, 4, StreamForm(blocks=40)),
        "composer.hosts.RestoringHost": RestoringHost(frozen, sample, StreamForm()),
        "composer.hosts.StreamForm": StreamForm(),
        "composer.procrustes.Alignment": container.consensus.maps[0],
        "composer.procrustes.Consensus": container.consensus,
        "composer.procrustes.Frame": container.consensus.frame,
        "composer.procrustes.Null": pair.direct.shuffled,
        "composer.procrustes.Score": pair.direct,
        "composer.procrustes.change": container.consensus.maps[0].then(container.consensus.maps[1].inverse()),
        "composer.procrustes.fit": composer.procrustes.fit(torch.randn(5, 40, 3), torch.randn(5, 40, 3)),
        "composer.procrustes.generalised": container.consensus.frame,
        "composer.procrustes.score": pair.direct,
        "registry.Attestation": report,
        "registry.CONTROLS": registry.CONTROLS,
        "registry.CheckFigure": report.checks[0],
        "registry.ControlFigure": report.controls[0],
        "registry.DirectoryStore": registry.DirectoryStore(folder / "registry"),
        "registry.DoseFigure": committed("doses"),
        "registry.Finding": registry.Finding("blob", "blobs/1", FormatError("too large", code="TOO_LARGE")),
        "registry.FrozenFigure": committed("frozen"),
        "registry.Signature": found[0].snapshot.signature,
        "registry.Signing": signing("A"),
        "registry.HubStore": registry.HubStore("hf://me/cells", token="hf_secret"),
        "registry.Index": open_snapshot(store).index,
        "registry.Located": found[0],
        "registry.Lock": Lock.of(found),
        "registry.MemoryStore": store,
        "registry.Mirrored": registry.mirror(store, registry.MemoryStore()),
        "registry.PROFILES": registry.PROFILES,
        "registry.PackedRelease": registry.find("model/*", registry=store)[0].release,
        "registry.Published": publication,
        "registry.ReadOutFigure": registry.ReadOutFigure(subject="cell", reads="omega", losses=(0.5, 0.25), within=None),
        "registry.PulledFile": registry.PulledFile(packed, pulled[0].origin, folder / "model.safetensors"),
        "registry.Reference": registry.Reference.parse("low/one@^1"),
        "registry.Release": found[0].release,
        "registry.Report": registry.Report(everything()),
        "registry.ReturnFigure": committed("returns"),
        "registry.Task": task(),
        "registry.ViabilityProtocol": registry.PROFILES["standard"],
        "registry.build_site": registry.build_site(folder / "site", store),
        "registry.find": found,
        "registry.pull": pulled,
        "registry.verify": registry.verify("high/tiny", registry=store),
        "registry a snapshot": open_snapshot(store),
        "registry a yanked version": yank("high/tiny@1.0.0", "wrong data", store),
    }
    batch_warning = ScaleWarning("values above 4")
    shown["batteries.images.ScaleWarning"] = batch_warning
    return shown


def everything():
    """An attestation of the registry that ships, with every figure."""
    path = min((ROOT / "manifests" / "attestations").rglob("*.json"))
    return registry.Attestation.from_bytes(path.read_bytes(), where=path)


def committed(part):
    return getattr(everything(), part)[0]


def names_of(kind):
    return {f"{package}.{name}" for package, names in kind.items() for name in names.split()}


@pytest.mark.slow
def test_every_public_name_is_shown_or_said_to_be_plain(made):
    """A class is shown if something of it is; a function if its result is, or another's that makes the same."""
    missing = []
    classes = tuple(type(one) for one in made.values())
    for package, names in PUBLIC.items():
        module = importlib.import_module(package)
        for name in names:
            value, dotted = getattr(module, name), f"{package}.{name}"
            if isinstance(value, ModuleType | str | float | tuple) or dotted in made:
                continue
            if inspect.isclass(value):
                covered = (
                    issubclass(value, Exception)
                    or getattr(value, "_is_protocol", False)
                    or any(issubclass(k, value) for k in classes)
                )
                covered = covered or name in ABSTRACT
            else:
                covered = dotted in names_of(PLAIN) | names_of(SAME)
            if not covered:
                missing.append(dotted)
    assert missing == []


def test_the_tables_name_what_there_is():
    public = {f"{package}.{name}" for package, names in PUBLIC.items() for name in names}
    assert (names_of(PLAIN) | names_of(SAME)) - public == set()


def test_everything_is_short_named_and_without_a_dump(made):
    wrong = {}
    for name, value in made.items():
        text = repr(value)
        whole = value if isinstance(value, dict | list | tuple) else None
        named = whole is not None or text.startswith(type(value).__name__)
        if text.count("\n") >= MOST_LINES or len(text) > MOST_CHARACTERS or DUMP.search(text) or not named:
            wrong[name] = (text.count("\n") + 1, len(text), text[:300])
        if whole is None and not hasattr(type(value), "__str__") and str(value) != text:
            wrong[name] = str(value)
    assert wrong == {}


def test_a_repr_opens_no_connection_reads_no_file_and_runs_no_cell(made, monkeypatch):
    def refuse(*args, **more):
        raise AssertionError("a repr works")

    monkeypatch.setattr(socket, "socket", refuse)
    for name in ("read_bytes", "read_text", "open"):
        monkeypatch.setattr(Path, name, refuse)
    for name in ("forward", "tokens", "encode"):
        monkeypatch.setattr(batteries.PatchSVAE, name, refuse)
    monkeypatch.setattr(composer.Container, "forward", refuse)
    for name in ("mean", "sum", "square", "norm"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    for value in made.values():
        repr(value)


def test_no_token_is_shown(made):
    assert "secret" not in repr(made["batteries.HubRepository"]) + repr(made["registry.HubStore"])


SPEC = batteries.CellSpec(V=6, D=4, patch_size=4, hidden=8)


@pytest.fixture(scope="module")
def many():
    """Two hundred cells of forty specs, side by side."""
    specs = [SPEC.model_copy(update={"hidden": 8 + n}) for n in range(40)]
    one = {n: from_model(spec, n, f"cell-{n}") for n, spec in enumerate(specs)}
    return composer.compose({f"cell-{n}": one[n % 40] for n in range(200)})


@pytest.mark.slow
def test_two_hundred_cells_in_a_few_lines(many):
    out = many(images(2))
    shown = [many, out, composer.align(many.part(many.names[:30]), images(), tokens="omega"), many.explain((16, 16))]
    for value in shown:
        assert repr(value).count("\n") < MOST_LINES
        assert len(repr(value)) <= MOST_CHARACTERS
        assert re.search(r"\.\.\. and \d+ more$", repr(value))


EXAMPLES = {
    "batteries.Cell": "Cell(high/tiny@1.0.0, 129 parameters, CV 0.920, MSE 0.25)",
    "batteries.CellSpec": "CellSpec(V=8, D=4, patch_size=8, hidden=4)",
    "batteries.Photos": "Photos(40 photographs such as photo-0.png, 0 skipped, digest=aaaaaaaaaaaa...)",
    "batteries.Probe": "Probe(noise16-64, version 1, 256 images of 3 x 64 x 64, 16 noise types)",
    "composer.Container": "Container(5 cells, ",
    "composer.Wired": "Wired(5 cells, ",
    "composer.Composition": "Composition(5 cells, 5 nodes, output='all')\n  cells: noise, wide, photo, low, low.2\n  swap: ",
    "composer.ContainerOutput": "ContainerOutput(5 cells)\n  noise: ",
    "composer.procrustes.Consensus": "Consensus(5 cells, width 8, omega on 2 x 2 regions)\n  noise: R2 ",
    "composer.compare": "PairTable(10 pairs of 5 cells, omega on 2 x 2 regions)\n  PairScore(noise -> wide, R2 ",
    "registry.Attestation": "Attestation(high/tiny@1.0.0, quick-1: viable)",
    "registry.Index": "Index(number 3, 1 cell, 1 model)",
    "registry.Lock": "Lock(1)\n  high/tiny@1.0.0",
    "registry.MemoryStore": "MemoryStore(",
    "registry.find": "[Located(high/tiny@1.0.0, 129 parameters, CV 0.920, MSE 0.25, viable)]",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(made, name):
    assert repr(made[name]).startswith(EXAMPLES[name])


def test_a_spec_is_read_back_from_its_repr():
    for spec in (SPEC, batteries.CellSpec.preset("low"), SPEC.model_copy(update={"heads": 1, "activation": "relu"})):
        assert eval(repr(spec), {"CellSpec": batteries.CellSpec}) == spec  # noqa: S307 - it is ours


def test_a_yanked_cell_says_so():
    store = filled(tiny())
    yank("high/tiny@1.0.0", "wrong data", store)
    with pytest.warns(registry.YankedWarning):
        (cell,) = registry.pull("high/tiny@1.0.0", registry=store)
    assert repr(cell).endswith(", yanked)")
    assert "yanked='wrong data'" in repr(registry.find(registry=store)[0].release)


def test_releases_of_every_kind_share_the_form(made):
    assert isinstance(made["registry.PackedRelease"], tuple(RELEASES.values()))
    shown = repr(made["registry.PackedRelease"])
    assert re.search(r"cells=5.* [\d,]+ bytes, sha256 [0-9a-f]{12}\.\.\.", shown, re.DOTALL)
