import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semver import Version

from batteries.errors import InputError
from registry.catalog.version_ranges import Range
from tests.support.soak import many

# what node-semver answers; Cargo too, but for the bare 1 and 1.2, which it reads as ^1 and ^1.2
KNOWN = {
    "^1": "1.0.0 1.2.3 1.99.99 | 0.9.9 2.0.0 2.0.0-rc.1 1.0.0-rc.1 1.5.0-rc.1",
    "^1.2": "1.2.0 1.3.0 1.99.0 | 1.1.9 2.0.0",
    "^1.2.3": "1.2.3 1.3.0 1.2.3+build | 1.2.2 2.0.0 2.0.0-alpha 1.2.4-beta.2",
    "^0.2.3": "0.2.3 0.2.9 | 0.2.2 0.3.0 1.0.0",
    "^0.2": "0.2.0 0.2.9 | 0.1.9 0.3.0",
    "^0.0.3": "0.0.3 | 0.0.2 0.0.4 0.1.0",
    "^0.0": "0.0.0 0.0.9 | 0.1.0",
    "^0.0.0": "0.0.0 | 0.0.1",
    "^0": "0.0.0 0.9.9 | 1.0.0 1.0.0-rc.1",
    "^1.2.3-beta.2": "1.2.3-beta.2 1.2.3-beta.4 1.2.3 1.9.0 | 1.2.3-beta.1 1.2.4-beta.2 2.0.0",
    "^0.0.3-beta": "0.0.3-beta 0.0.3-rc 0.0.3 | 0.0.3-alpha 0.0.4",
    "~1.2.3": "1.2.3 1.2.9 | 1.2.2 1.3.0 1.3.0-rc.1",
    "~1.2": "1.2.0 1.2.9 | 1.1.9 1.3.0",
    "~1": "1.0.0 1.9.9 | 0.9.9 2.0.0",
    "~0.2.3": "0.2.3 0.2.9 | 0.3.0",
    "~0": "0.0.0 0.9.9 | 1.0.0",
    "~1.2.3-beta.2": "1.2.3-beta.2 1.2.3 1.2.9 | 1.2.3-beta.1 1.2.4-beta.2 1.3.0",
    "1": "1.0.0 1.9.9 | 0.9.9 2.0.0 1.0.0-rc.1 2.0.0-rc.1",
    "1.2": "1.2.0 1.2.9 | 1.1.9 1.3.0 1.3.0-rc.1",
    "0": "0.0.0 0.9.9 | 1.0.0",
    ">1": "2.0.0 3.1.4 | 1.0.0 1.9.9 2.0.0-rc.1",
    ">1.2": "1.3.0 2.0.0 | 1.2.0 1.2.9",
    ">1.2.3": "1.2.4 2.0.0 | 1.2.3 1.2.3+build 1.2.4-rc.1",
    ">1.2.3-alpha.3": "1.2.3-alpha.7 1.2.3-alpha.3.1 1.2.3 3.4.5 | 1.2.3-alpha.3 3.4.5-alpha.9",
    ">=1.1": "1.1.0 2.0.0 | 1.0.9 1.1.0-rc.1",
    ">=1.1,<2": "1.1.0 1.9.9 | 1.0.9 2.0.0 2.0.0-rc.1",
    ">=1.5.0-rc.1": "1.5.0-rc.1 1.5.0-rc.2 1.5.0 2.0.0 | 1.5.0-beta 1.4.0 1.6.0-rc.1",
    "<1.2": "0.0.0 1.1.9 | 1.2.0 1.2.0-rc.1 1.1.0-rc.1",
    "<1.2.0": "1.1.9 | 1.2.0 1.2.0-rc.1",
    "<1.2.0-rc.2": "1.2.0-rc.1 1.1.9 | 1.2.0-rc.2 1.2.0 1.1.0-rc.1",
    "<=1.2": "1.2.9 0.1.0 | 1.3.0 1.3.0-rc.1",
    "<=1.2.3": "1.2.3 0.1.0 | 1.2.4 1.2.4-rc.1",
    "<=1.2.3-rc.1": "1.2.3-rc.1 1.2.2 | 1.2.3-rc.2 1.2.3",
    "<=1": "1.9.9 | 2.0.0 2.0.0-rc.1",
    ">2,<1": "| 0.5.0 1.5.0 2.5.0",
    "^1.2,>1.2.5,<1.9": "1.2.6 1.8.9 | 1.2.5 1.9.0",
}


@pytest.mark.parametrize("text", KNOWN)
def test_known_answers(text):
    inside, _, outside = KNOWN[text].partition("|")
    found = Range.parse(text)
    assert str(found) == text
    assert [version for version in inside.split() if not found.allows(version)] == []
    assert [version for version in outside.split() if found.allows(version)] == []


BAD = [
    "", " ", ",", "^", "^1,", ",^1", "1.2.3", "=1", "==1", "*", "x", "1.x", "1.2.3.4", "^1.2.3.4", "v1", "^v1", "^01", "1.02",
    "^-1", "^1.2-rc.1", "~1-rc", "^1.2.3-", "^1.2.3-01", "^1.2.3-RC", "^1.2.3-a..b", "^1.2.3+b", "1 2", "1 .2", ">=1 <2",
    "^1||^2", "1 - 2", "^\u0661", "^1\n", "\t^1", "^1.", "<>1", "=>1", "!1", "^ ^1", "^1" + ",^1" * 100, "^" + "1" * 300,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_bad(text):
    with pytest.raises(InputError) as caught:
        Range.parse(text)
    assert caught.value.code == "BAD_RANGE"


@given(st.text(max_size=60) | st.text("^~<>=.,-0123456789 abcrx", max_size=30))
def test_any_text_is_a_range_or_a_typed_error(text):
    try:
        found = Range.parse(text)
    except InputError:
        return
    assert Range.parse(str(found)) == found
    found.allows("1.2.3-rc.1")


small = st.integers(0, 3)
prereleases = st.sampled_from([None, None, None, "0", "a", "a.0", "a.1", "rc.1", "rc.2"])
triples = st.tuples(small, small, small)
exact = st.builds(lambda numbers, pre: ".".join(map(str, numbers)) + (f"-{pre}" if pre else ""), triples, prereleases)
terms = st.one_of(
    st.builds(lambda op, version: op + version, st.sampled_from(["^", "~", ">=", ">", "<=", "<"]), exact),
    st.builds(
        lambda op, numbers: op + ".".join(map(str, numbers)),
        st.sampled_from(["", "^", "~", ">=", ">", "<=", "<"]),
        st.lists(small, min_size=1, max_size=2),
    ),
)


ORDERS = (">=", ">", "<", "<=")


def comparators(term):
    """A term in plain comparisons of whole versions, as npm's documentation rewrites it."""
    operator, numbers, pre = re.fullmatch(r"([<>]=?|[~^]?)([0-9.]+)(-.*)?", term).groups(default="")
    written = [int(number) for number in numbers.split(".")]
    last = len(written) - 1

    def whole(values):
        return ".".join(map(str, [*values, 0, 0][:3]))

    def next_after(place):
        return whole([*written[:place], written[place] + 1])

    if operator in ORDERS and last == 2:
        return [term]
    if operator in ORDERS:
        words = {">=": whole(written), ">": next_after(last), "<": f"{whole(written)}-0", "<=": f"{next_after(last)}-0"}
        return [(">=" if operator.startswith(">") else "<") + words[operator]]
    place = {"": last, "~": min(last, 1)}.get(operator)
    if place is None:
        place = min([place for place, number in enumerate(written) if number], default=last)
    return [f">={whole(written)}{pre}", f"<{next_after(place)}-0"]


def satisfies(version, parts):
    """An independent reading of a range."""
    found = Version.parse(version)
    named = {part.lstrip("^~<>=").partition("-")[0] for part in parts if "-" in part}
    if found.prerelease is not None and str(found.replace(prerelease=None, build=None)) not in named:
        return False
    return all(found.match(comparator) for part in parts for comparator in comparators(part))


@pytest.mark.slow
@settings(max_examples=many(500, 10_000), deadline=None)
@given(st.lists(terms, min_size=1, max_size=3), exact)
def test_a_range_is_its_terms_and_each_is_what_npm_makes_of_it(parts, version):
    assert Range.parse(",".join(parts)).allows(version) == satisfies(version, parts)


@given(st.lists(terms, min_size=1, max_size=3), exact)
def test_build_metadata_count_for_nothing(parts, version):
    found = Range.parse(",".join(parts))
    assert found.allows(version) == found.allows(f"{version}+build.7")
