"""The strict reader of TOML: what is refused, before how much work, and that nothing else changes."""

import tomllib

import pytest

from batteries.errors import FormatError
from batteries.io.texts import toml_text
from batteries.io.texts.hostile_json import MAX_DEPTH
from tests.support.costs import at_most, peak_of
from tests.support.laws import given, settings, st

LIMIT = 2**20
REFUSED = {
    "a dotted key": ("a." * 20_000 + "a=1", "TOO_DEEP"),
    "a dotted header": ("[" + "a." * 20_000 + "a]", "TOO_DEEP"),
    "quoted parts": ("'a'.\"b\"." * 100 + "a=1", "TOO_DEEP"),
    "brackets": ("a=" + "[" * 100_000, "TOO_DEEP"),
    "tables": ("a=" + "{a=" * 100_000, "TOO_DEEP"),
    "digits": ("a=" + "9" * 5000, "TOML"),
    "hexadecimal digits, and garbage": ("a=0x" + "f" * 100_000 + "g", "TOML"),
    "values": ("a=[" + "1," * 400_000 + "]", "TOO_LARGE"),
    "lines": ("\n" * 400_000, "TOO_LARGE"),
    "bytes": ("#" * (LIMIT + 1), "TOO_LARGE"),
    "an open string": ("a='" + "x" * 900_000, "TOML"),
    "a key twice": ("a=1\na=2", "TOML"),
    "a surrogate": ("a='\ud800'", "TOML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_much_is_refused_by_name(name):
    text, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        toml_text.parse(text, where="a file", limit=LIMIT)
    assert (caught.value.code, caught.value.where) == (code, "a file")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REFUSED if name != "a surrogate"])
def test_refusal_takes_little(name):
    data = REFUSED[name][0].encode()

    def refuse():
        with pytest.raises(FormatError, match="TO"):
            toml_text.parse(data, where="", limit=LIMIT)

    with at_most(seconds=1):
        refuse()
    assert peak_of(refuse) < 4 * len(data) + 64 * 2**20


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab.=[]{}\"'#\n \\,19-_"), max_size=60) | st.binary(max_size=40))
def test_all_else_is_read_as_by_the_standard_library(text):
    data = text.encode() if isinstance(text, str) else text
    try:
        wanted = tomllib.loads(data.decode("utf-8-sig"))
    except ValueError:
        wanted = None
    try:
        found = toml_text.parse(data, where="", limit=LIMIT)
    except FormatError as error:
        found = None if error.code == "TOML" else error.code
    assert found == wanted or (found == "TOO_DEEP" and data.count(b".") >= MAX_DEPTH)


def test_a_mark_at_the_start_is_no_part_of_the_text():
    assert toml_text.parse("\ufeffa=1".encode(), where="", limit=LIMIT) == {"a": 1}
