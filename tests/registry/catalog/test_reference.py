import pytest
from hypothesis import given
from hypothesis import strategies as st

from batteries.cell.manifest import is_name
from batteries.errors import FormatError, InputError, NotFoundError
from registry.catalog import store_keys
from registry.catalog.reference import FOLDERS, Reference, is_version
from registry.catalog.version_ranges import Range, Term
from registry.stores import settings

DIGEST = "0123456789abcdef" * 4

GOOD = {
    "low/fresnel-256": Reference(None, "low", "fresnel-256"),
    "low/fresnel-256@1.2.0": Reference(None, "low", "fresnel-256", "1.2.0"),
    "lab/high/johanna-64": Reference("lab", "high", "johanna-64"),
    "lab/open/a@1.0.0-rc.1+build.5": Reference("lab", "open", "a", "1.0.0-rc.1+build.5"),
    f"mid/x.y_z@sha256:{DIGEST}": Reference(None, "mid", "x.y_z", None, DIGEST),
    f"lab/mid/x@sha256:{DIGEST}": Reference("lab", "mid", "x", None, DIGEST),
    "low/low": Reference(None, "low", "low"),
    "low/low/low": Reference("low", "low", "low"),
    "low/" + "a" * 64: Reference(None, "low", "a" * 64),
    "low/sha256@0.0.0": Reference(None, "low", "sha256", "0.0.0"),
    "low/x@^1": Reference(None, "low", "x", range=Range((Term("^", (1,)),))),
    "lab/low/x@~1.2": Reference("lab", "low", "x", range=Range((Term("~", (1, 2)),))),
    "low/x@1.2": Reference(None, "low", "x", range=Range((Term("", (1, 2)),))),
    "low/x@>=1.1,<2": Reference(None, "low", "x", range=Range((Term(">=", (1, 1)), Term("<", (2,))))),
    "model/trio": Reference(None, "model", "trio"),
    "lab/model/trio@1.0.0": Reference("lab", "model", "trio", "1.0.0"),
    f"model/trio@sha256:{DIGEST}": Reference(None, "model", "trio", None, DIGEST),
    "model/model": Reference(None, "model", "model"),
    "low/x@^1.0.0-rc.1": Reference(None, "low", "x", range=Range((Term("^", (1, 0, 0), "rc.1"),))),
}

BAD = {
    "": "path",
    "fresnel-256": "path",
    "a/b/low/fresnel": "path",
    "low/": "name",
    "/fresnel": "band",
    "blue/fresnel": "band",
    "models/trio": "band",
    "Model/trio": "band",
    "model/": "name",
    "model/../x": "band",
    "LOW/fresnel": "band",
    " low/fresnel": "band",
    "low/Fresnel": "name",
    "low/fresnel ": "name",
    "low/..": "name",
    "low/.hidden": "name",
    "low/nul": "name",
    "low/con.x": "name",
    "low/" + "a" * 65: "name",
    "low/fresnel\n": "name",
    "low/fresn\u00e9l": "name",
    "low/a\x00b": "name",
    "../low/x": "registry",
    "/low/x": "registry",
    "Lab/low/x": "registry",
    "low/x@": "version",
    "low/x@v1.0.0": "version",
    "low/x@01.0.0": "version",
    "low/x@1.0.0-RC.1": "version",
    "low/x@1.0.0\n": "version",
    "low/x@1.\u0663.0": "version",
    "low/x@=1.0.0": "version",
    "low/x@^": "version",
    "low/x@>=1,": "version",
    "low/x@1.x": "version",
    "low/x@*": "version",
    "low/x@^1.0.0+build": "version",
    "low/x@^1 <2": "version",
    "low/x@^1\n": "version",
    "low/x@1.0.0,<2": "version",
    "low/x@" + ",".join(["^1"] * 100): "version",
    "low/x@latest": "version",
    "low/x@1.0.0@1.0.0": "version",
    "low/x@1.0.0/../../y": "version",
    "low/x@1.0.0-" + "a" * 60: "version",
    "low/x@sha256:": "digest",
    "low/x@sha256:" + "A" * 64: "digest",
    "low/x@sha256:" + "a" * 63: "digest",
    "low/x@sha256:" + "a" * 65: "digest",
    f"low/x@sha256:{DIGEST}\n": "digest",
    f"low/x@1.0.0@sha256:{DIGEST}": "version",
    f"low/x@md5:{DIGEST}": "version",
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text):
    assert Reference.parse(text) == GOOD[text]
    assert str(GOOD[text]) == text


@pytest.mark.parametrize("text", BAD)
def test_bad_names_the_part_and_shows_the_form(text):
    with pytest.raises(InputError) as caught:
        Reference.parse(text)
    assert caught.value.code == "BAD_REFERENCE"
    assert caught.value.exit_code == 2
    assert caught.value.what == f"invalid {BAD[text]} in a reference"
    assert "[registry/]band/name[@version]" in str(caught.value)


def test_a_version_a_digest_and_a_range_exclude_each_other():
    some = Range.parse("^1")
    for pins in (
        {"version": "1.0.0", "digest": DIGEST},
        {"version": "1.0.0", "range": some},
        {"digest": DIGEST, "range": some},
    ):
        with pytest.raises(InputError, match="invalid pin"):
            Reference(None, "low", "x", **pins)


def test_a_range_has_one_spelling():
    reference = Reference.parse("low/x@>= 1.1 , <2")
    assert str(reference) == "low/x@>=1.1,<2"
    assert reference == Reference.parse(str(reference))
    assert str(reference.at("1.5.0")) == "low/x@1.5.0"


def test_a_band_that_is_nearly_one():
    for text in ("hihg/x", "HIGH/x"):
        with pytest.raises(InputError, match="Did you mean high"):
            Reference.parse(text)


names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True).filter(is_name)
numbers = st.integers(0, 10**6)
suffixes = st.sampled_from(["", "-rc.1", "-alpha", "+build.7", "-0.3.7+x"])
versions = st.builds(lambda a, b, c, s: f"{a}.{b}.{c}{s}", numbers, numbers, numbers, suffixes)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
ranges = st.sampled_from(["^1", "~1.2", "1", "1.2", ">=1.1,<2", "^0.0.3", ">1.0.0-rc.1", "<=2"]).map(Range.parse)
pins = st.one_of(
    st.just({}),
    versions.map(lambda v: {"version": v}),
    digests.map(lambda d: {"digest": d}),
    ranges.map(lambda r: {"range": r}),
)


@pytest.mark.slow
@given(registry=st.none() | names, band=st.sampled_from(FOLDERS), name=names, pin=pins)
def test_round_trip(registry, band, name, pin):
    reference = Reference(registry, band, name, **pin)
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_typed_error(text):
    try:
        reference = Reference.parse(text)
        assert str(reference).replace(" ", "") == text.replace(" ", "")
        assert Reference.parse(str(reference)) == reference
    except InputError:
        return


@given(band=st.sampled_from(FOLDERS), name=names, version=versions)
def test_every_exact_reference_has_a_key(band, name, version):
    assert is_version(version)
    assert store_keys.is_key(store_keys.manifest(f"{band}/{name}", version))


@pytest.fixture
def aliases():
    path = settings.config_file()
    path.parent.mkdir(parents=True)
    path.write_text(
        "[aliases]\n"
        'best = "low/fresnel-256@^1"\n'
        f'pinned = "lab/high/x@sha256:{DIGEST}"\n'
        'twice = "best"\n'
        'broken = "blue/fresnel"\n'
    )


def test_an_alias_is_the_reference_it_stands_for(aliases):
    assert settings.expand("best") == Reference.parse("low/fresnel-256@^1")
    assert settings.expand("pinned") == Reference.parse(f"lab/high/x@sha256:{DIGEST}")
    assert settings.expand("lab/low/x@1.0.0") == Reference.parse("lab/low/x@1.0.0")


@pytest.mark.parametrize(
    ("text", "kind", "code", "words"),
    [
        ("bets", NotFoundError, "NO_ALIAS", "Did you mean best?"),
        ("zzzzzz", NotFoundError, "NO_ALIAS", "one of best, broken, pinned, twice"),
        ("twice", FormatError, "ALIAS_OF_ALIAS", "got best"),
        ("broken", FormatError, "CONFIG", "invalid band in a reference"),
        ("best@1.0.0", InputError, "BAD_REFERENCE", "invalid path"),
        ("", InputError, "BAD_REFERENCE", "invalid path"),
        ("Best", InputError, "BAD_REFERENCE", "invalid path"),
    ],
)
def test_what_is_no_alias(aliases, text, kind, code, words):
    with pytest.raises(kind) as caught:
        settings.expand(text)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_without_a_configuration_file_there_are_no_aliases():
    with pytest.raises(NotFoundError, match=r"\[aliases\]"):
        settings.expand("best")


@given(st.text(max_size=40))
def test_any_text_is_an_alias_or_a_reference_or_a_typed_error(text):
    try:
        settings.expand(text)
    except (InputError, NotFoundError):
        return
