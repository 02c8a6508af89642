"""Recipe for a dozen pictures: two sets of thirteen, three seeds each, trained and validated by the commands of README.md.

    python examples/dozen.py            # the missing runs of six, then docs/results/dozen.md
    python examples/dozen.py --report   # the page, from the existing runs

The pictures come from Debian packages (mate-backgrounds, lomiri-wallpapers, plasma-workspace-wallpapers), scaled to thirteen
sizes from 96 x 128 to 3000 x 2000. ``runs/dozen`` keeps pictures, cells and answers; a finished run is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pages import RESULTS, table
from PIL import Image

import batteries
from batteries.cell.manifest import CvFigure, Measured
from batteries.io import atomic_files, canonical_json

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "dozen"
PAGE = RESULTS / "dozen.md"

RECIPE = ("--mix", "0.25", "--augment", "--optimiser", "muon", "--steps", "1200", "--batch", "32")
SEEDS = range(3)
SIZES = (
    (96, 128), (256, 256), (320, 240), (400, 300), (500, 375), (640, 480), (720, 1280),
    (800, 600), (1024, 768), (1280, 960), (1600, 1200), (2000, 1500), (3000, 2000),
)  # fmt: skip
BACKGROUNDS, WALLPAPERS = Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers")
SETS = {
    "mixed": (  # photographs, drawings and a pattern
        *(f"mate/abstract/{name}" for name in ("Elephants.jpg", "Flow.png", "Gulp.png")),
        "mate/desktop/GreenTraditional.jpg",
        *(f"mate/nature/{name}.jpg" for name in ("Aqua", "Dune", "Garden", "LadyBird", "Wood")),
        "Bridge_by_Sander_Klootwijk.jpg",
        "Fossa_by_Jasper_Roks.jpg",
        "Kleiber_by_Lukas_Baubkus.jpg",
        "umang_by_Abhishek_Mudgal.jpg",
    ),
    "wallpapers": tuple(
        f"{name}/contents/images/1920x1080.jpg"
        for name in ("Autumn", "BytheWater", "ColdRipple", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite")
    )
    + tuple(f"{name}/contents/images/1920x1080.jpg" for name in ("OneStandsOut", "PastelHills", "Path", "summer_1am"))
    + ("FlyingKonqui/contents/images/1920x1080.png",),
}
HEAD = """# A cell of a dozen pictures

Written by `python examples/dozen.py`: thirteen pictures of mixed size (96 x 128 to 3000 x 2000 pixels), two sets, three seeds.

```
batteries train low/mine-64 --photos ./pictures {recipe}
batteries validate low/mine-64.safetensors
```

*mixed* has photographs, drawings and a pattern; *wallpapers* has photographs and renderings. MSE is on `photos-64`, of which no
photograph is among them (the best linear code of the same width: {pca}). *Kept* is the share of content left by the host's
dose: 0.9 or more is asked. Minutes are of both commands, on {cores} cores."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Recipe for a dozen pictures, tried.")
    parser.add_argument("--report", action="store_true", help="write the page from the existing runs")
    given = parser.parse_args()
    runs = [(name, seed) for name in SETS for seed in SEEDS]
    found = [answer_of(name, seed, make=not given.report) for name, seed in runs]
    PAGE.write_text(page(found))


def answer_of(name: str, seed: int, *, make: bool) -> dict[str, Any]:
    """Return the kept answer of a run, or do the run."""
    kept = FOLDER / f"{name}-{seed}.json"
    if not kept.exists():
        if not make:
            raise SystemExit(f"no run {kept}")
        atomic_files.replace(kept, canonical_json.dump(_run(name, seed)))
    found: dict[str, Any] = json.loads(kept.read_bytes())
    print(f"{name}, seed {seed}: {found['verdict']}, {found['minutes']:.1f} minutes", flush=True)
    return found


def _run(name: str, seed: int) -> dict[str, Any]:
    pictures = _pictures(name)
    since = time.monotonic()
    trained = _command(
        *("train", f"low/dozen-{seed}", "--photos", str(pictures), *RECIPE, "--seed", str(seed)),
        *("--out", str(FOLDER / name), "--run", str(FOLDER / f"run-{name}-{seed}")),
    )
    tested = _command("validate", str(cell_file(name, seed)))
    return {"set": name, "seed": seed, "minutes": (time.monotonic() - since) / 60, "trained": trained, **_verdict(tested)}


def _command(*words: str) -> dict[str, Any]:
    run = subprocess.run([sys.executable, "-m", "batteries", *words, "--json"], stdout=subprocess.PIPE, check=False, cwd=FOLDER)
    if run.returncode not in (0, 7):  # 7: not viable, which is an answer
        raise SystemExit(f"batteries {' '.join(words)}: exit code {run.returncode}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def _pictures(name: str) -> Path:
    """Make the folder of a set's pictures."""
    folder = FOLDER / "pictures" / name
    folder.mkdir(parents=True, exist_ok=True)
    root = BACKGROUNDS if name == "mixed" else WALLPAPERS
    for place, size in zip(SETS[name], SIZES, strict=True):
        words = Path(place).parts
        Image.open(root / place).convert("RGB").resize(size).save(folder / f"{words[0]}-{words[-1]}.png")
    return folder


def cell_file(name: str, seed: int) -> Path:
    """Return the place of a run's cell."""
    return FOLDER / name / "low" / f"dozen-{seed}.safetensors"


def _verdict(answer: dict[str, Any]) -> dict[str, Any]:
    report = answer["reports"][0]["report"]
    kept = next(check for check in report["checks"] if check["name"] == "content kept")
    return {"verdict": answer["reports"][0]["verdict"], "failed": answer["reports"][0]["failed"], "kept": kept["value"]}


def page(answers: list[dict[str, Any]]) -> str:
    """Format the page of all runs."""
    own = [batteries.Cell.read(cell_file(run["set"], run["seed"])).manifest.own for run in answers]
    rows = [_row(run, figures) for run, figures in zip(answers, own, strict=True)]
    pca = sorted({f"{figures.baselines.pca:.4f}" for figures in own if figures.baselines})
    head = HEAD.format(recipe=" ".join(RECIPE), pca=", ".join(pca), cores=os.cpu_count())
    columns = ("pictures", "seed", "MSE", "CV / exact", "kept", "verdict", "minutes")
    return f"{head}\n\n{table(columns, rows)}\n"


def _row(run: dict[str, Any], own: Measured) -> tuple[str, ...]:
    cv = own.deciding_cv
    assert isinstance(cv, CvFigure)
    verdict = run["verdict"] + (f" ({', '.join(run['failed'])})" if run["failed"] else "")
    mse = f"{own.mse.value:.4f} ± {own.mse.standard_error:.4f}"
    return run["set"], str(run["seed"]), mse, f"{cv.ratio:.3f}", f"{run['kept']:.3f}", verdict, f"{run['minutes']:.1f}"


if __name__ == "__main__":
    main()
