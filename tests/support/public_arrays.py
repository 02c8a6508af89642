"""Arrays of public cells made by plain code: ``banks.{i}.<name>`` in one safetensors file, and its ``config.json``."""

import json

from safetensors.torch import save_file

SIZES = ("V", "D", "patch_size", "hidden", "depth", "n_cross_layers", "n_heads", "smooth_mid", "channels")
PHASES = ("epoch_1", "best", "final")


def kwargs_of(public, **more):
    """What the builder passes to every bank."""
    return {name: value for name, value in public.config().items() if name in SIZES} | more


def config_of(public, rows=None, phases=None, **more):
    """The builder's config, whose other keys are those of its model class and name code that nothing imports."""
    config = {
        "model_type": "battery_array",
        "battery_class": "PatchSVAE",
        "battery_module": "os.path",
        "auto_map": {"AutoModel": "os.system"},
        "pruned_heads": {},
        "output_attentions": False,
        "battery_kwargs": kwargs_of(public),
        "batteries": rows,
        "epoch_phase_names": phases,
    }
    return {name: value for name, value in {**config, **more}.items() if value is not None}


def rows_of(count, phases=PHASES):
    """The builder's rows: a battery's data, and epochs and errors of its phases."""
    return [
        {
            "battery_id": battery,
            "subgroup": "quads",
            "variant": f"quad_{battery}",
            "hf_path": f"quads/quad_{battery}",
            "noise_types": [0, battery],
            "epoch_phases": {phase: number for number, phase in enumerate(phases, 1)},
            "per_phase_mse": {phase: 0.5 / number for number, phase in enumerate(phases, 1)},
            "per_phase_cv": dict.fromkeys(phases, 0.9),
            "params_finite_final": True,
        }
        for battery in range(count)
    ]


def saved_array(folder, publics, config=None, *, prefix="", name="array.safetensors", more=None, header=None):
    """Write an array of cells, by their numbers or in order, with its config beside it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    numbered = publics if isinstance(publics, dict) else dict(enumerate(publics))
    banks = {f"{prefix}banks.{i}.{part}": t.clone() for i, one in numbered.items() for part, t in one.state().items()}
    save_file(banks | (more or {}), folder / name, metadata=header)
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "config.json").write_text(text)
    return folder / name
