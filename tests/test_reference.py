import pytest
from hypothesis import given
from hypothesis import strategies as st

from batteries.errors import InputError
from batteries.manifest import BANDS, is_name
from registry import keys
from registry.reference import Reference, is_version

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
}

BAD = {
    "": "the path",
    "fresnel-256": "the path",
    "a/b/low/fresnel": "the path",
    "low/": "the name",
    "/fresnel": "the band",
    "blue/fresnel": "the band",
    "LOW/fresnel": "the band",
    " low/fresnel": "the band",
    "low/Fresnel": "the name",
    "low/fresnel ": "the name",
    "low/..": "the name",
    "low/.hidden": "the name",
    "low/nul": "the name",
    "low/con.x": "the name",
    "low/" + "a" * 65: "the name",
    "low/fresnel\n": "the name",
    "low/fresn\u00e9l": "the name",
    "low/a\x00b": "the name",
    "../low/x": "the registry",
    "/low/x": "the registry",
    "Lab/low/x": "the registry",
    "low/x@": "the version",
    "low/x@1": "the version",
    "low/x@1.0": "the version",
    "low/x@v1.0.0": "the version",
    "low/x@01.0.0": "the version",
    "low/x@1.0.0-RC.1": "the version",
    "low/x@1.0.0\n": "the version",
    "low/x@1.\u0663.0": "the version",
    "low/x@>=1.0.0": "the version",
    "low/x@latest": "the version",
    "low/x@1.0.0@1.0.0": "the version",
    "low/x@1.0.0/../../y": "the version",
    "low/x@1.0.0-" + "a" * 60: "the version",
    "low/x@sha256:": "the digest",
    "low/x@sha256:" + "A" * 64: "the digest",
    "low/x@sha256:" + "a" * 63: "the digest",
    "low/x@sha256:" + "a" * 65: "the digest",
    f"low/x@sha256:{DIGEST}\n": "the digest",
    f"low/x@1.0.0@sha256:{DIGEST}": "the version",
    f"low/x@md5:{DIGEST}": "the version",
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
    assert caught.value.what == f"not a reference: {BAD[text]}"
    assert "[registry/]band/name[@version]" in str(caught.value)


def test_version_and_digest_exclude_each_other():
    with pytest.raises(InputError, match="the pin"):
        Reference(None, "low", "x", "1.0.0", DIGEST)


names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True).filter(is_name)
numbers = st.integers(0, 10**6)
suffixes = st.sampled_from(["", "-rc.1", "-alpha", "+build.7", "-0.3.7+x"])
versions = st.builds(lambda a, b, c, s: f"{a}.{b}.{c}{s}", numbers, numbers, numbers, suffixes)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
pins = st.one_of(st.just({}), versions.map(lambda v: {"version": v}), digests.map(lambda d: {"digest": d}))


@given(registry=st.none() | names, band=st.sampled_from(BANDS), name=names, pin=pins)
def test_round_trip(registry, band, name, pin):
    reference = Reference(registry, band, name, **pin)
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_typed_error(text):
    try:
        assert str(Reference.parse(text)) == text
    except InputError:
        return


@given(band=st.sampled_from(BANDS), name=names, version=versions)
def test_every_exact_reference_has_a_key(band, name, version):
    assert is_version(version)
    assert keys.is_key(keys.manifest(f"{band}/{name}", version))
