"""Write the golden files anew, after a change that was meant: ``python -m tests.support.freeze_golden``."""

import importlib
import json
from pathlib import Path

from batteries import Manifest
from composer.artifact import MapsManifest, ModelManifest, VaeManifest
from registry.answers.adoption import ADOPTING
from registry.answers.alignment import ALIGNING
from registry.answers.composition import COMPOSING
from registry.answers.diagnosis import DIAGNOSING
from registry.answers.encoding import ENCODING
from registry.answers.inspection import INSPECTING
from registry.answers.maintenance import MAINTENANCE
from registry.answers.site import SITES
from registry.answers.transfer import ANSWERS
from registry.answers.trust import TRUST
from registry.answers.vae import VAES
from registry.site.site_index import SiteIndex
from tests.project.test_public_names import GOLDEN, PUBLIC, ROOT, options
from tests.support.cells import tiny

SCHEMAS = ROOT / "docs" / "schema"


def answer_schemas():
    """The schema of what every command answers under ``--json``, by the name of the command."""
    answers = {**ANSWERS, **ADOPTING, **ALIGNING, **COMPOSING, **MAINTENANCE, **ENCODING, **INSPECTING, **DIAGNOSING, **SITES}
    answers |= VAES | TRUST
    return {name: answer.model_json_schema(mode="serialization") for name, answer in answers.items()}


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write(GOLDEN / "names.json", {name: importlib.import_module(name).__all__ for name in PUBLIC})
    write(GOLDEN / "options.json", options())
    write(SCHEMAS / "manifest-1.0.json", Manifest.model_json_schema())
    write(SCHEMAS / "model-manifest-1.0.json", ModelManifest.model_json_schema())
    write(SCHEMAS / "maps-manifest-1.0.json", MapsManifest.model_json_schema())
    write(SCHEMAS / "site-index-1.0.json", SiteIndex.model_json_schema(mode="serialization"))
    write(SCHEMAS / "vae-manifest-1.0.json", VaeManifest.model_json_schema())
    for name, schema in answer_schemas().items():
        write(SCHEMAS / f"{name}-1.0.json", schema)
    tiny().write(GOLDEN / "format-1.0")
