"""Help that fits 80 columns: short options in groups, examples that parse, exit codes; choices completed and refused."""

import json
import re
import shlex

import pytest
import typer

from batteries import errors
from batteries.errors import BatteriesError
from registry.cli import app, main
from registry.cli.terminal.help import COMMAND_GROUPS, EXIT_CODES, GROUP_OF, OTHER
from tests.support.commands import every_command

COLUMNS, LONGEST = 80, 45
GROUP = typer.main.get_command(app)
COMMANDS = every_command(GROUP)
CHOICES = {  # option: commands that take it, words, code of the error
    "--profile": (("validate", "x/y"), ("quick", "standard"), "PROFILE"),
    "--control": (("validate", "x/y"), ("untrained", "none", "rank-one", "nan"), "CONTROL"),
    "--mode": (("list",), ("online", "prefer-cache", "offline"), "MODE"),
    "--tokens": (("align", "low/a", "low/b"), ("omega", "S", "moment", "frames", "rows"), "TOKENS"),
    "--grid": (("align", "low/a", "low/b"), ("coarsest", "exact"), "GRIDS"),
    "--preset": (("train", "low/a", "--noise", "--steps", "1"), ("low", "mid", "high"), "PRESET"),
    "--schedule": (("train", "low/a", "--noise", "--steps", "1"), ("constant", "cosine", "onecycle"), "USAGE"),
    "--noise": (("train", "low/a", "--steps", "1"), ("batteries", "published"), "USAGE"),
    "--optimiser": (("train", "low/a", "--noise", "--steps", "1"), ("adam", "adamw", "sgd", "muon"), "USAGE"),
    "--activation": (("adopt", "x", "--name", "low/a", "--input", "plain"), ("gelu", "relu"), "SPEC"),
    "--row-norm": (("adopt", "x", "--name", "low/a", "--input", "plain"), ("sphere", "none"), "SPEC"),
}


@pytest.fixture
def helped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))

    def helped(*words):
        assert main([*words, "--help"]) == 0
        return capsys.readouterr().out

    return helped


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_options_is_short(name):
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        assert len(parameter.help) <= LONGEST, (parameter.name, len(parameter.help))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_shows_an_example_and_the_exit_codes(helped, name):
    text = helped(*name.split())
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert f"Example:\n  batteries {name} " in text
    assert EXIT_CODES.splitlines()[0] in text
    for parameter in COMMANDS[name].params:
        word = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        assert (word in text) is not parameter.hidden


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name):
    program, *words = shlex.split(COMMANDS[name].epilog.replace("\\\n", ""))
    own = name.split()
    assert (program, words[: len(own)]) == ("batteries", own)
    context = COMMANDS[name].make_context(name, words[len(own) :])
    assert context.args == []


def test_commands_are_in_groups_one_sentence_each(helped):
    text = helped()
    commands = text.split("Example:")[0]
    assert "..." not in commands.split("\n", 1)[1]  # nothing is cut; the first line is the usage
    assert [line[:-1] for line in commands.splitlines() if line[:-1] in COMMAND_GROUPS] == list(COMMAND_GROUPS)
    for name, command in GROUP.commands.items():
        assert command.rich_help_panel in COMMAND_GROUPS
        (line,) = [line for line in commands.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith(".")
    assert EXIT_CODES.splitlines()[0] in text


def test_many_options_are_in_groups(helped):
    text = helped("train")
    assert text.index("Data:\n") < text.index("Training:\n") < text.index("Label:\n") < text.index("Output:\n")
    assert {"out", "as_json", "registry", "threads", "license"} <= set(GROUP_OF)
    assert f"{OTHER}:\n" in helped("gc")
    assert "Output:" not in helped("gc")


def test_the_exit_codes_are_those_of_the_errors():
    shown = {int(code) for code in re.findall(r"\d", EXIT_CODES)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BatteriesError)]
    assert {kind.exit_code for kind in kinds} | {0, 1, 2, 7} == shown


@pytest.mark.parametrize("option", CHOICES)
def test_another_word_is_refused_with_the_codes_that_the_library_has(capsys, option):
    words, known, code = CHOICES[option]
    assert main([*words, option, "bogus", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["found"]) == (code, "bogus")
    assert set(known) <= set(error["expected"].split(" | "))


@pytest.mark.parametrize("option", CHOICES)
def test_choices_are_completed_and_shown(capsys, monkeypatch, helped, option):
    words, known, _ = CHOICES[option]
    shown = " ".join(helped(words[0]).split())
    assert "|".join(known[:2]) in shown or ", ".join(known[:2]) in shown  # too many for a line: named in the text
    line = f"batteries {shlex.join(words)} {option} {known[0][0]}"
    completion = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_BATTERIES_COMPLETE": "complete_bash"}
    for name, value in completion.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 0
    found = capsys.readouterr().out.split()
    assert known[0] in found
    assert all(word.startswith(known[0][0]) for word in found)
