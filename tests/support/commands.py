"""The command, run in this process, and its answers."""

import json

from registry.cli import main


def every_command(group, before=""):
    """Every command of a group, and of the groups in it, by its words."""
    found = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= every_command(command, f"{before}{name} ") if inner else {f"{before}{name}": command}
    return found


def run(capsys, *words):
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def answered(capsys, answer, *words):
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    found = answer.model_validate_json(out)
    assert json.loads(out) == found.model_dump(mode="json")
    return found
