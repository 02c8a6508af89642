import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batteries.errors import InputError
from registry.catalog.reference import Reference
from registry.catalog.release import Summary
from registry.stores.memory import MemoryStore
from registry.stores.snapshot import Snapshot
from registry.transfer.query import FIELDS, MAX_QUERY, Query, row_of
from registry.transfer.remarks import attest
from tests.support.cells import attestation, publish, python, tiny
from tests.support.costs import at_most
from tests.support.soak import many

ROW = {
    "band": "low", "name": "fresnel-256", "version": "1.2.0", "family": "fresnel", "license": "Apache-2.0", "verdict": "viable",
    "own_probe": "photos-256", "on_attractor": False, "holds": None, "yanked": False, "viable": True, "V": 64, "D": 16,
    "patch_size": 16, "resolution": 256, "parameters": 250211, "cv": 0.27, "cv_standard_error": None, "ratio": 1.3,
    "axial_cv": 0.28, "axial_cv_standard_error": None, "mse": 0.006, "size": 1_003_404,
}  # fmt: skip

TRUE = [
    "D == 16 and mse < 0.01 and viable", "viable", "not yanked", "not holds", "True", "not False", "(viable)",
    "D in (4, 16)", "D in [16]", "D not in (4, 8)", "D in (16,)", "0.2 < cv < 0.3", "0.2 < cv <= 0.27 < ratio < 2", "1 < 2",
    "-1 < 0", "D == 16.0", "D != 4", "16 == D", "ratio > cv", "V == 64 or D == 4", "D == 4 or V == 64", "family == 'fresnel'",
    'family in ("fresnel", "johanna")', "family != 'johanna'", "verdict == 'viable'", "yanked == False", "viable != yanked",
    "(D == 16) == viable", "not (D == 4 or yanked)", "mse > -1e-3", "mse < 1e999", "size < 2_000_000", "D == 0x10",
    "  viable  ", "(D\n==\n16)", "viable # a word", "'a' == 'a'", "not not viable", "viable == True in (True, False)",
    "axial_cv > cv",
]  # fmt: skip

FALSE = [
    "yanked", "holds", "D == 4", "D in ()", "cv_standard_error < 1", "cv_standard_error > 0", "cv_standard_error == 0",
    "cv_standard_error != 0", "cv_standard_error in (0, 1)", "cv_standard_error not in (0, 1)", "0 < cv_standard_error < 1",
    "holds == True", "holds == False", "holds != True", "cv < 0.3 < mse", "0.3 < cv < 1", "viable and D == 4", "False",
]  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_true(text):
    assert Query.parse(text).matches(ROW) is True


@pytest.mark.parametrize("text", FALSE)
def test_false(text):
    assert Query.parse(text).matches(ROW) is False


BAD = {
    "": "invalid syntax",
    "vible": "Did you mean viable?",
    "MSE < 1": "Did you mean mse?",
    "true": "Did you mean True?",
    "family == johanna": "a text needs quotes",
    "zzz == 1": "The fields are D, V, axial_cv",
    "D": "expected a comparison or a flag, got a number: 'D'",
    "'text'": "got a text",
    "1": "got a number",
    "D and viable": "got a number: 'D'",
    "not family": "got a text",
    "viable or mse": "got a number: 'mse'",
    "D == '16'": "number and text: 'D' and \"'16'\"",
    "D == True": "number and flag",
    "viable == 1": "flag and number",
    "viable < True": "an order between two numbers",
    "version >= '1.0'": "an order between two numbers",
    "family < 1": "text and number",
    "D is 16": "== or !=",
    "D is not 16": "== or !=",
    "cv is None": "got 'None'",
    "cv == None": "got 'None'",
    "D in 16": "expected a list such as (4, 16)",
    "'a' in name": "expected a list",
    "D in {4, 16}": "expected a list",
    "D in (4, '16')": "expected a list of literal numbers",
    "D in (4, True)": "expected a list of literal numbers",
    "D in (V, 4)": "expected a list of literal numbers",
    "viable in (not viable,)": "expected a list of literal flags",
    "D in ((4,), 16)": "got '(4,)'",
    "D = 16": "invalid syntax",
    "D == 16 &": "invalid syntax",
    "D == 16; viable": "invalid syntax",
    "viable\nviable": "invalid syntax",
    "D == 4 & viable": "got '4 & viable'",
    "D + 1 == 17": "got 'D + 1'",
    "-D == 16": "got '-D'",
    "- -1 < 0": "got '- -1'",
    "-True < 0": "got '-True'",
    "+1 > 0": "got '+1'",
    "~1 < 0": "got '~1'",
    "viable if viable else yanked": "got 'viable if viable else yanked'",
    "(x := 1) == 1": "got 'x := 1'",
    "lambda: viable": "got 'lambda: viable'",
    "__import__('os').system('true') == 0": "got",
    "open('x')": "got \"open('x')\"",
    "name.upper() == 'X'": "got 'name.upper()'",
    "name[0] == 'X'": "got 'name[0]'",
    "[D for D in (1,)] == 1": "got",
    "f'{D}' == 'x'": "got",
    "b'x' == 'x'": "got",
    "1j == 1": "got '1j'",
    "... == 1": "got '...'",
    "await viable": "got 'await viable'",
    "yield": "invalid syntax",
    "*viable": "got",
    "viable, yanked": "got 'viable, yanked'",
    "'\\d' == 'd'": "invalid escape",
    "1if viable else 0": "invalid",
    "D == 1\x00": "null bytes",
    "name == '\ud800'": "UnicodeEncodeError",
    "viable and " * 50 + "viable": "expected at most 500",
    "(" * 21 + "viable" + ")" * 21: "expected at most 20 pairs",
    "not " * 100 + "viable": "expected at most 20 nested operators",
    "-" * 480 + "1 < 2": "got",
    "9" * 490 + " < 2 and": "invalid",
    "D == 016": "leading zeros",
    "D == 'x": "unterminated",
    "D == (16": "never closed",
    "D == 16)": "unmatched",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: ascii(text[:40]))
def test_bad(text):
    with pytest.raises(InputError) as caught:
        Query.parse(text)
    assert (caught.value.code, caught.value.exit_code) == ("WHERE", 2)
    assert BAD[text] in str(caught.value)


def test_what_is_wrong_is_found_before_the_first_cell_and_says_where():
    with pytest.raises(InputError, match="in column 25"):
        Query.parse("D == 16 and mse < 1 and vible")


def test_every_field_of_a_summary_can_be_asked_for_and_has_its_kind():
    kinds = {"str": "text", "int": "number", "float": "number", "bool": "flag"}
    for name, field in Summary.model_fields.items():
        plain = str(field.annotation).removeprefix("<class '").removesuffix("'>").split(" | ")[0]
        assert FIELDS[name] == kinds[plain], name


def row(*verdicts):
    store = MemoryStore()
    publish(tiny(), store)
    for number, verdict in enumerate(verdicts):
        attest(attestation(tiny(), protocol=f"quick-{number}", verdict=verdict), store)
    return row_of(Snapshot.take(store).find(Reference.parse("high/tiny")))


def test_a_row_has_every_field_and_no_other():
    found = row()
    assert set(found) == set(FIELDS) == set(ROW)
    kinds = {bool: "flag", int: "number", float: "number", str: "text"}
    assert all(value is None or kinds[type(value)] == FIELDS[name] for name, value in found.items())
    assert (found["band"], found["name"], found["version"], found["yanked"]) == ("high", "tiny", "1.0.0", False)


@pytest.mark.parametrize(
    ("verdicts", "viable", "worst"),
    [
        ((), False, None),
        (("viable",), True, "viable"),
        (("viable", "viable"), True, "viable"),
        (("viable", "walked back"), False, "walked back"),
        (("no verdict", "viable"), False, "no verdict"),
        (("no verdict", "walked back", "viable"), False, "walked back"),
    ],
)
def test_viable_is_what_all_protocols_say(verdicts, viable, worst):
    found = row(*verdicts)
    assert (found["viable"], found["verdict"]) == (viable, worst)


VOCABULARY = """
D mse cv family viable holds and or not in is ( ) [ ] , < <= == != > - 1 0.5 1e999 'x' " True None lambda : if else for { } . *
"""
words = st.sampled_from([*VOCABULARY.split(), "\n", "#"])
texts = st.one_of(
    st.text(max_size=MAX_QUERY + 20),
    st.lists(words, max_size=60).map(" ".join),
    st.builds(lambda piece, times: piece * times, st.text(max_size=5) | words, st.integers(0, 300)),
)


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_heap")
@settings(max_examples=many(300, 30_000), deadline=None)
@given(texts)
def test_any_text_is_a_query_or_a_typed_error_at_once(text):
    with at_most(seconds=1):
        try:
            assert Query.parse(text).matches(ROW) in (True, False)
        except InputError as error:
            str(error)


numbers = st.sampled_from(["D", "V", "cv", "mse", "1", "-2.5", "16", "cv_standard_error"])
orders = st.sampled_from(["<", "<=", "==", "!=", ">=", ">"])
comparisons = st.builds(lambda a, op, b, tail: f"{a} {op} {b}{tail}", numbers, orders, numbers, st.sampled_from(["", " < 100"]))
conditions = st.recursive(
    comparisons | st.sampled_from(["viable", "holds", "yanked", "True", "D in (4, 16)", "family not in ['johanna']"]),
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.builds("({}) and {}".format, inner, inner),
        st.builds("{} or ({})".format, inner, inner),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=many(200, 10_000), deadline=None)
@given(conditions)
def test_where_nothing_is_missing_it_means_what_it_means_in_python(text):
    full = {**ROW, "holds": True, "cv_standard_error": 0.1}
    try:
        query = Query.parse(text)
    except InputError:
        assume(False)  # deeper or longer than a query may be
    assert query.matches(full) is bool(eval(text, {"__builtins__": {}}, dict(full)))  # noqa: S307


@pytest.mark.slow
def test_nothing_is_run():
    code = """
import sys
from registry.transfer.query import Query
from batteries.errors import InputError
seen = []
def hook(event, arguments):
    if event in ("exec", "import", "open", "os.system") or (event == "compile" and arguments[0] is None):
        seen.append(event)
texts = sys.argv[1:]
Query.parse(texts[0])
sys.addaudithook(hook)
for text in texts:
    try:
        Query.parse(text)
    except InputError as error:
        str(error)
print(seen)
"""
    run = python(code, "viable", "__import__('os').system('true') == 0", "exec('1')", "D == 16 and mse < 0.01")
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
