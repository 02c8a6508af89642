"""A shelf of public checkpoints made by our own code: each is adopted as the same function, or refused with the reason."""

import json
import pathlib
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from batteries.errors import BatteriesError
from batteries.model.patch_svae import load_weights, untrained
from batteries.packaging.foreign_cell import adoptable
from tests.support.public_arrays import PHASES, config_of, kwargs_of, rows_of, saved_array
from tests.support.public_models import ACTIVATIONS, SITES, Public

MOST = 1e-5  # difference of omega and reconstruction


@dataclass(frozen=True)
class Item:
    """A file of the shelf.

    Attributes:
        public: The cell in it.
        wrap: Its state and config to the content of the file, or to bytes.
        options: What its user says.
        code: Code of the refusal; None if it is adopted.
        says: Words of the refusal, or of how it was read.
    """

    public: Public
    wrap: object = None
    options: dict = field(default_factory=dict)
    code: str | None = None
    says: tuple = ()


def general(state, config):
    """As the general trainer saves."""
    optimizer = {"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    return {
        "model_state_dict": OrderedDict(state),
        "optimizer_state_dict": optimizer,
        "config": config,
        "epoch": 3,
        "test_mse": 0.1,
    }


def ablation(state, config):
    """As the ablation trainers save."""
    return {"model_state": state, "config": config, "epoch": 3}


def changed(**more):
    """The general trainer's file with a config changed; keys of None are left out."""
    return lambda state, config: general(state, {k: v for k, v in {**config, **more}.items() if v is not None})


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def averaged(state, config):
    """Two sets in one table, as a module that holds a model and its average saves them, with its counters."""
    online = {name: tensor + 1 for name, tensor in state.items()}
    return {
        "initted": torch.tensor(True),
        "step": torch.tensor(9),
        **prefixed("ema_model.", online),
        **prefixed("online_model.", state),
    }


def safetensors(metadata):
    return lambda state, config: ("safetensors", dict(state), metadata(config))


BASE = Public()
FOUR = Public(heads=4)
IN = {"activations": {"enc_in": "relu"}}
NO_CONFIG = "nothing in the file tells them"
LOOSE = {"rng_state": torch.zeros(16, dtype=torch.uint8), "losses": torch.rand(5)}

FORMS = {
    "bare": Item(BASE, lambda s, c: s, says=(NO_CONFIG,)),
    "bare with a config": Item(FOUR, lambda s, c: {**s, "config": c}, says=("heads 4 of the config",)),
    "general": Item(BASE, general, says=("weights of model_state_dict",)),
    "ablation": Item(FOUR, ablation, says=("weights of model_state", "heads 4 of the config")),
    "state_dict": Item(BASE, lambda s, c: {"state_dict": s}),
    "model": Item(BASE, lambda s, c: {"model": s, "step": 7}),
    "ema": Item(BASE, lambda s, c: {"ema_state_dict": s, "config": c}, says=("weights of ema_state_dict",)),
    "two sets": Item(
        BASE,
        lambda s, c: {"ema_state_dict": {n: t + 1 for n, t in s.items()}, "model_state_dict": s},
        says=("weights of model_state_dict, not of ema_state_dict",),
    ),
    "the other set": Item(
        BASE,
        lambda s, c: {"ema_state_dict": s, "model_state_dict": {n: t + 1 for n, t in s.items()}},
        {"key": "ema_state_dict"},
        says=("weights of ema_state_dict",),
    ),
    "a set and its average": Item(BASE, averaged, says=("under online_model., not under ema_model.", "initted, step")),
    "loose tensors beside": Item(BASE, lambda s, c: {**LOOSE, "model_state": s, "config": c}),
    "loose tensors and a model": Item(BASE, lambda s, c: {**LOOSE, "model": s, "config": c}),
    "another name": Item(BASE, lambda s, c: {"net": s}, {"key": "net"}),
    "another name unsaid": Item(BASE, lambda s, c: {"net": s}, code="STATE_DICT", says=("tensors under net",)),
    "a name it has not": Item(BASE, general, {"key": "net"}, code="KEY", says=("model_state_dict",)),
    "parallel": Item(BASE, lambda s, c: general(prefixed("module.", s), c), says=("prefix module. taken off",)),
    "compiled": Item(BASE, lambda s, c: general(prefixed("_orig_mod.", s), c), says=("prefix _orig_mod. taken off",)),
    "compiled and parallel": Item(BASE, lambda s, c: general(prefixed("module._orig_mod.", s), c)),
    "lightning": Item(
        FOUR,
        lambda s, c: {
            "state_dict": prefixed("model.", s),
            "hyper_parameters": c,
            "epoch": 2,
            "pytorch-lightning_version": "2.5",
        },
        says=("prefix model. taken off", "heads 4 of the config"),
    ),
    "averaged": Item(
        BASE,
        lambda s, c: {"model": {"n_averaged": torch.tensor(12), **prefixed("module.", s)}},
        says=("counters left out: n_averaged",),
    ),
    "numpy and paths": Item(
        BASE,
        lambda s, c: general(s, {**c, "dir": pathlib.PurePosixPath("/a")}) | {"test_mse": np.float64(0.5), "curve": np.ones(3)},
        says=("left unread", "pathlib.PurePosixPath", "multiarray.scalar"),
    ),
    "nested config": Item(FOUR, lambda s, c: general(s, {"model_kwargs": c, "lr": 1e-3}), says=("heads 4 of the config",)),
    "half": Item(BASE, lambda s, c: general({n: t.half() for n, t in s.items()}, c)),
    "bfloat16": Item(BASE, lambda s, c: general({n: t.bfloat16() for n, t in s.items()}, c)),
    "safetensors": Item(BASE, safetensors(lambda c: None)),
    "safetensors with a config": Item(
        FOUR, safetensors(lambda c: {"config": json.dumps(c), "format": "pt"}), says=("heads 4",)
    ),
    "git's pointer": Item(
        BASE,
        lambda s, c: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        code="LFS_POINTER",
        says=("Git LFS",),
    ),
    "an array": Item(
        BASE, lambda s, c: prefixed("banks.0.", s) | prefixed("banks.1.", s), code="RELATIVE", says=("array of cells",)
    ),
    "version 2": Item(
        BASE, lambda s, c: general({**s, "decoder.mode_proc.proj.weight": torch.zeros(2, 2)}, c), code="RELATIVE", says=("v2",)
    ),
    "a transformer": Item(
        BASE, lambda s, c: {**prefixed("battery.svae.", s), "lens.E": torch.eye(4)}, code="RELATIVE", says=("transformer",)
    ),
    "a codebook": Item(
        BASE, lambda s, c: general({**s, "codebook": torch.zeros(8, 4)}, c), code="RELATIVE", says=("codebook",)
    ),
    "a codebook without tensors": Item(BASE, changed(model_type="aleph"), code="FUNCTION", says=("model_type 'aleph'",)),
    "a variational one": Item(
        BASE,
        lambda s, c: {"fc_mu.weight": torch.zeros(2, 2), "fc_logvar.weight": torch.zeros(2, 2)},
        code="RELATIVE",
        says=("variational",),
    ),
}
HEADS = {
    **{
        f"{heads} heads of D {D}": Item(Public(D=D, heads=heads), general)
        for D, heads in ((4, 1), (4, 4), (8, 1), (8, 4), (8, 8), (16, 8))
    },
    "by default": Item(Public(D=8, heads=2), changed(n_heads=None), says=(NO_CONFIG,)),
    "ablation, doubtful": Item(FOUR, lambda s, c: {"model_state": s}, code="HEADS", says=("2 or 4", "--heads N")),
    "ablation, said": Item(FOUR, lambda s, c: {"model_state": s}, {"options": {"heads": 4}}, says=("heads 4 by option",)),
    "ablation, D 16": Item(Public(D=16, heads=4), lambda s, c: {"model_state": s}),
    "option over config": Item(
        FOUR, changed(n_heads=2), {"options": {"heads": 4}}, says=("heads 4 by option, not 2 of the config",)
    ),
    "no divisor": Item(BASE, changed(n_heads=3), code="SPEC", says=("heads must divide D",)),
}
ALL = tuple(SITES[:-1])
ACTIVATION = {
    **{
        f"{a} of enc_in": Item(Public(activations={"enc_in": a}), changed(activation=a))
        for a in ("relu", "silu", "tanh", "identity")
    },
    **{
        f"{a} everywhere": Item(Public(activations=dict.fromkeys(ALL, a)), changed(activations=dict.fromkeys(ALL, a)))
        for a in ("relu", "tanh")
    },
    "swish": Item(Public(activations={"enc_in": "silu"}), changed(activation="swish")),
    "by option": Item(Public(activations=dict.fromkeys(ALL, "relu")), changed(), {"options": {"activation": "relu"}}),
    "of enc_in by option": Item(
        Public(**IN),
        lambda s, c: s,
        {"options": {"activation": "relu", "activation_sites": "enc_in"}},
        says=("enc_in by option",),
    ),
    "of dec_in": Item(
        Public(activations={"dec_in": "relu"}),
        changed(activations={"dec_in": "relu"}),
        code="FUNCTION",
        says=("relu of dec_in",),
    ),
    "of the smoothing": Item(
        Public(activations={"boundary_smooth": "relu"}),
        changed(activations={"boundary_smooth": "relu"}),
        code="FUNCTION",
        says=("relu of boundary_smooth",),
    ),
    "mish": Item(Public(activations={"enc_in": "mish"}), changed(activation="mish"), code="FUNCTION", says=("mish of enc_in",)),
    "an unknown setting": Item(Public(**IN), changed(enc_activation="relu"), code="FUNCTION", says=("enc_activation",)),
}
NORMS = {
    **{norm: Item(Public(row_norm=norm), changed(row_norm=norm)) for norm in ("sphere", "none", "layernorm", "scale")},
    "layernorm at D 8": Item(Public(D=8, row_norm="layernorm"), changed(row_norm="layernorm")),
    "biased by option": Item(Public(row_norm="biased"), changed(row_norm="layernorm"), {"options": {"row_norm": "layernorm"}}),
    "mean by option": Item(Public(row_norm="mean"), changed(row_norm="scale"), {"options": {"row_norm": "scale"}}),
    "mean": Item(Public(row_norm="mean"), changed(row_norm="mean_scale"), code="FUNCTION", says=("row_norm 'mean_scale'",)),
    "our own names": Item(
        Public(row_norm="biased", activations=dict.fromkeys(ALL, "relu")),
        changed(row_norm="layernorm", activation="relu", smooth_width=6, cross_layers=1, bounded_alpha=True),
    ),
}
READOUTS = {
    "linear": Item(
        Public(readout="linear"),
        changed(linear_readout=True, svd_mode="none"),
        says=("readout linear of the config",),
    ),
    "linear without a config": Item(Public(readout="linear"), lambda s, c: s),
    "linear of four heads": Item(Public(heads=4, readout="linear"), changed(linear_readout=True)),
    "linear without attention": Item(Public(readout="linear", cross=0), changed(linear_readout=True)),
    "none": Item(
        Public(readout="none"), changed(linear_readout=True, match_params=False), says=("readout none of the config",)
    ),
    "none by option": Item(
        Public(readout="none"), lambda s, c: s, {"options": {"readout": "none"}}, says=("readout none by option",)
    ),
    "linear by option, without its matrix": Item(
        BASE, changed(), {"options": {"readout": "linear"}}, code="READOUT", says=("without readout.",)
    ),
    "svd": Item(BASE, changed(linear_readout=False, svd_mode="default", match_params=True, svd_compute_dtype="fp64")),
    "float32": Item(Public(float32=True), changed(svd_mode="fp32"), code="FUNCTION", says=("svd_mode 'fp32'",)),
    "of the batch": Item(BASE, changed(svd_mode="batch_shared"), code="FUNCTION", says=("batch_shared",)),
    "a matrix that is not there": Item(BASE, changed(linear_readout=True), code="CONFIG", says=("without readout.",)),
    "a matrix too many": Item(Public(readout="linear"), changed(linear_readout=False), code="CONFIG", says=("with readout.",)),
}
SIZES = {
    **{
        f"D {D}": Item(Public(D=D, heads=heads), general)
        for D, heads in ((2, 2), (3, 3), (5, 1), (6, 2), (12, 4), (24, 4), (32, 8))
    },
    **{f"{channels} channels": Item(Public(channels=channels), general) for channels in (1, 5)},
    "no attention": Item(Public(cross=0), general, says=("D 4 of the config",)),
    "no attention, no config": Item(Public(cross=0), lambda s, c: s, code="WIDTH"),
    "no attention, by option": Item(Public(cross=0), lambda s, c: s, {"width": 4}),
    "deep": Item(Public(depth=3, cross=2, hidden=14), general),
    "other sizes than its config": Item(BASE, changed(V=24, D=2, n_heads=2), code="CONFIG", says=("V 12, D 4", "V 24, D 2")),
    "two counts of one thing": Item(BASE, changed(n_cross=2), code="CONFIG", says=("n_cross_layers 1, n_cross 2",)),
    "a count in words": Item(BASE, changed(n_heads="four"), code="CONFIG", says=("n_heads 'four'",)),
}


def bank(public, others, config=None, key=None, *, options=None, code=None, says=(), **saving):
    """A cell as the last bank of an array, behind others, with the array's config."""
    return Item(
        public,
        lambda s, c: lambda folder: saved_array(folder, [*others, public], config, name="cell.safetensors", **saving),
        {"key": key or f"banks.{len(others)}", "options": options or {}},
        code,
        says,
    )


LINEAR = Public(readout="linear", heads=4)  # the function of the published array
WIDE = Public(D=8, heads=4)
MIXED_ROWS = [{"name": "a"}, {"name": "b", "battery_kwargs": kwargs_of(WIDE)}]
SPHERE_SOLVERS = {"battery_kwargs": kwargs_of(LINEAR, linear_readout=True, svd_mode="none", match_params=True)}
ARRAYS = {
    "svd": bank(
        FOUR, [Public(seed=1, heads=4)], config_of(FOUR, ["a", "b"]), says=("array of 2 banks", "bank 1, battery 1", "heads 4")
    ),
    "without a config": bank(BASE, [FOUR], says=("no config.json beside it", NO_CONFIG)),
    "linear": bank(
        LINEAR,
        [Public(seed=n, readout="linear") for n in range(5)],
        config_of(LINEAR, rows_of(2), PHASES, n_batteries=2, **SPHERE_SOLVERS),
        says=("bank 5, battery 1 in phase final", "readout linear of the config", "heads 4 of the config"),
    ),
    "linear without a config": bank(LINEAR, [BASE], options={"heads": 4}, says=("heads 4 by option",)),
    "none": bank(Public(readout="none"), [BASE], None, options={"readout": "none"}),
    "mixed, with a config each": bank(WIDE, [BASE], config_of(BASE, MIXED_ROWS), says=("heads 4 of the config",)),
    "mixed, without configs": bank(Public(D=8), [LINEAR, BASE], says=(NO_CONFIG,)),
    "mixed, with one config": bank(WIDE, [BASE], config_of(BASE, ["a", "b"]), code="CONFIG", says=("D 4", "D 8")),
    "mixed, one of whom is damaged": bank(
        BASE, [FOUR], more={"banks.2.enc_in.weight": torch.zeros(3, 3)}, says=("array of 3 banks",)
    ),
    "behind a prefix": bank(BASE, [FOUR], prefix="module.array.", says=("prefix module.array. taken off",)),
    "beside a router": bank(BASE, [FOUR], more={"router.weight": torch.zeros(3)}, says=("beside the banks: router.weight",)),
    "a config in the header": bank(
        FOUR, [BASE], header={"config": json.dumps(config_of(FOUR, ["a", "b"]))}, says=("heads 4 of the config",)
    ),
    "of no key": bank(BASE, [FOUR], key="bank", code="KEY", says=("banks.0, banks.1", "got bank")),
    "another architecture": bank(
        BASE, [FOUR], config_of(BASE, battery_kwargs={"model_type": "v2"}), code="FUNCTION", says=("v2",)
    ),
    "two prefixes": bank(
        BASE, [FOUR], more={"ema.banks.0.enc_in.weight": torch.zeros(3)}, code="STATE_DICT", says=("banks., ema.banks.",)
    ),
    "not JSON": bank(BASE, [FOUR], "{", code="CONFIG", says=("config.json", "JSONDecodeError", "remove it")),
    "nested too deeply": bank(BASE, [FOUR], "[" * 100_000, code="CONFIG", says=("config.json",)),
    "no table": bank(BASE, [FOUR], "[1]", code="CONFIG", says=("a table",)),
    "rows of numbers": bank(BASE, [FOUR], config_of(BASE, [1, 2]), code="CONFIG", says=("names or tables",)),
    "no list of rows": bank(BASE, [FOUR], config_of(BASE, {"a": 1}), code="CONFIG", says=("batteries a list",)),
    "too few rows": bank(
        FOUR,
        [BASE],
        config_of(FOUR, ["a"]),
        says=("heads 4", "(1 rows, 1 batteries, banks 0 to 1)"),
    ),
    "too many rows": bank(FOUR, [BASE], config_of(FOUR, list("abc")), says=("heads 4", "(3 rows, 3 batteries, banks 0 to 1)")),
    "too few rows with settings": bank(
        WIDE, [BASE, BASE], config_of(BASE, MIXED_ROWS), code="CONFIG", says=("a row for each bank", "2 rows for banks up to 2")
    ),
    "a failed row": bank(
        BASE,
        [FOUR],
        config_of(BASE, rows_of(1, ()), n_batteries=2),
        says=("no row for battery 1", "may be those of an untrained cell"),
    ),
}
SHELF = {
    f"{subject}: {name}": item
    for subject, items in (
        ("form", FORMS),
        ("heads", HEADS),
        ("activation", ACTIVATION),
        ("norm", NORMS),
        ("read-out", READOUTS),
        ("size", SIZES),
        ("array", ARRAYS),
    )
    for name, item in items.items()
}


def written(folder, item):
    """Write a file of the shelf; return its path."""
    content = (item.wrap or general)(item.public.state(), item.public.config())
    if callable(content):
        return content(folder)
    if isinstance(content, tuple):
        _, tensors, metadata = content
        save_file(tensors, folder / "cell.safetensors", metadata=metadata)
        return folder / "cell.safetensors"
    path = folder / "cell.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path


def images(public):
    return torch.randn(2, public.channels, 2 * public.patch, 3 * public.patch, generator=torch.Generator().manual_seed(1))


def read(path, item):
    return adoptable(path, **{"options": {}, **item.options})


def difference(found, public, weights):
    """Largest difference of omega and of reconstruction, in float64, from the public forward pass."""
    x = images(public)
    omega, recon = public.forward(weights, x)
    assert recon.std() > 0.1
    with torch.no_grad():
        out = load_weights(untrained(found.spec, 0), found.arrays).double()(x.double())
    return max(float((out.omega - omega).abs().max()), float((out.recon - recon).abs().max()))


def test_the_shelf_is_large():
    assert len(SHELF) >= 110
    assert sum(item.code is None for item in SHELF.values()) >= 70


@pytest.mark.parametrize("item", SHELF.values(), ids=SHELF)
def test_each_is_adopted_as_the_same_function_or_refused_with_the_reason(tmp_path, item):
    path = written(tmp_path, item)
    if item.code:
        with pytest.raises(BatteriesError) as caught:
            read(path, item)
        assert caught.value.code == item.code
        text = str(caught.value)
    else:
        found = read(path, item)
        kept = {name: torch.tensor(array) for name, array in found.arrays.items()}
        wanted = item.public.state()
        assert kept.keys() == wanted.keys()
        assert all((kept[name] - wanted[name]).abs().max() < 0.05 for name in wanted)
        assert difference(found, item.public, kept) < MOST
        text = "; ".join(found.lines)
    for words in item.says:
        assert words in text


@pytest.mark.parametrize(
    "public",
    [
        FOUR,
        Public(**IN),
        *(Public(activations={site: "relu"}) for site in SITES[1:]),
        Public(activations={"enc_in": "mish"}),
        *(Public(row_norm=norm) for norm in ("none", "layernorm", "biased", "scale", "mean")),
        Public(readout="none"),
    ],
)
def test_what_the_shelf_tells_apart_is_another_function(tmp_path, public):
    state = public.state()
    torch.save(state, tmp_path / "cell.pt")  # without a config it is taken for the usual cell of its sizes
    found = adoptable(tmp_path / "cell.pt", options={})
    assert difference(found, public, state) > 20 * MOST
    assert difference(found, public.usual(), state) < MOST


def test_the_shelf_uses_every_activation_and_site():
    used = {(site, name) for item in SHELF.values() for site, name in item.public.activations.items()}
    assert {name for _, name in used} == ACTIVATIONS.keys() - {"gelu"}
    assert {site for site, _ in used} == set(SITES)
