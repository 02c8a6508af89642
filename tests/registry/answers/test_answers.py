"""What the commands answer under --json is what the published schemas say, and no more."""

import json
import os

import pytest

from batteries.errors import InputError
from registry.answers.adoption import ADOPTING
from registry.answers.alignment import ALIGNING
from registry.answers.answer import Fault
from registry.answers.composition import COMPOSING
from registry.answers.diagnosis import DIAGNOSING
from registry.answers.encoding import ENCODING
from registry.answers.inspection import INSPECTING
from registry.answers.maintenance import MAINTENANCE
from registry.answers.transfer import ANSWERS, Shown
from registry.answers.vae import VAES
from registry.cli import main
from registry.transfer.remarks import attest
from tests.support.cells import attestation, publish, tiny
from tests.support.freeze_golden import SCHEMAS, answer_schemas


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "registry"
    publish(tiny(), folder)
    publish(tiny(version="1.1.0", seed=1), folder)
    attest(attestation(tiny()), folder)
    return folder


def answered(capsys, *arguments, code=0):
    assert main([*map(str, arguments), "--json"]) == code
    return capsys.readouterr().out


ALL = {**ANSWERS, **ADOPTING, **ALIGNING, **COMPOSING, **MAINTENANCE, **ENCODING, **INSPECTING, **DIAGNOSING, **VAES}


@pytest.mark.parametrize("name", ALL)
def test_the_published_schemas_are_the_answers(name):
    exported = json.loads((SCHEMAS / f"{name}-1.0.json").read_text())
    assert exported == json.loads(json.dumps(answer_schemas()[name]))
    assert exported["additionalProperties"] is False


@pytest.mark.slow
@pytest.mark.usefixtures("by_hand")
def test_every_answer_is_strictly_what_its_schema_says(folder, capsys, tmp_path):
    cell_file = tiny("new", seed=3).write(tmp_path / "cells")
    asked = {
        "list": [("list",), ("list", "--all"), ("list", "--where", "D == 4"), ("list", "low/*")],
        "show": [("show", "high/tiny"), ("show", "high/tiny@^1"), ("show", "high/tiny@1.0.0")],
        "pull": [("pull", "high/tiny", "high/tiny@1.0.0"), ("pull", "high/tiny", "--out", tmp_path / "out")],
        "verify": [("verify", "--all"), ("verify", "high/tiny")],
    }
    for name, commands in asked.items():
        for command in commands:
            out = answered(capsys, *command, "--registry", folder)
            answer = ANSWERS[name].model_validate_json(out)
            assert json.loads(out) == answer.model_dump(mode="json"), command
    for _ in range(2):
        ANSWERS["publish"].model_validate_json(answered(capsys, "publish", cell_file, "--to", folder))
    more = tiny("more", seed=4).write(tmp_path / "cells")
    release = ANSWERS["publish-all"].model_validate_json(answered(capsys, "publish", cell_file, more, "--to", folder))
    assert [(str(one.reference), one.new, one.number) for one in release.artifacts] == [
        ("high/new@1.0.0", False, 5),
        ("high/more@1.0.0", True, 5),
    ]
    shown = ANSWERS["show"].model_validate_json(answered(capsys, "show", more))
    assert (shown.reference, shown.manifest, shown.attestations) == ("high/more@1.0.0", tiny("more", seed=4).manifest, {})
    listed = ANSWERS["list"].model_validate_json(answered(capsys, "list", more, "--where", "D == 4"))
    assert (listed.registry, [one.reference for one in listed.cells]) == (str(more), ["high/more@1.0.0"])


@pytest.mark.usefixtures("by_hand")
def test_every_error_is_strictly_what_its_schema_says(folder, capsys):
    for code, command in {
        2: ("show", "nothing/at/all/here", "--registry", folder),
        3: ("pull", "high/tinny", "--registry", folder),
        6: ("publish", tiny("tiny", seed=9).write(folder.parent), "--to", folder),
    }.items():
        ANSWERS["error"].model_validate_json(answered(capsys, *command, code=code))
    ANSWERS["error"].model_validate_json(answered(capsys, "list", "--nothing", code=2))
    (folder / "blobs" / tiny().digest).unlink()
    ANSWERS["verify"].model_validate_json(answered(capsys, "verify", "--all", "--registry", folder, code=4))


def test_a_pulled_cell_says_where_it_came_from(folder, capsys):
    (cell,) = json.loads(answered(capsys, "pull", "high/tiny@1", "--registry", folder))["cells"]
    assert (cell["reference"], cell["source"], cell["index_number"]) == ("high/tiny@1.1.0", str(folder), 3)
    assert cell["verified"] is True
    assert 0 <= cell["age"] < 60


def test_words_that_are_no_unicode_can_be_said():
    name = os.fsdecode(b"/tmp/\xff")
    fault = Fault.of(InputError("a bad path", code="BAD_PATH", where=name, found=b"x"))
    assert (fault.where, fault.found, fault.expected) == ("/tmp/\\udcff", "b'x'", None)


def test_an_answer_is_closed():
    with pytest.raises(ValueError, match="extra"):
        Fault.model_validate({**dict.fromkeys(Fault.model_fields, "x"), "more": 1})
    assert set(ANSWERS["list"].model_fields) == {"registry", "number", "signature", "cells", "models", "maps", "vaes"}
    assert set(Shown.model_fields) >= {"manifest", "attestations", "yanked"}
