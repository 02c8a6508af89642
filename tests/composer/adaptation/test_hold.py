"""Hold: its terms and bounds, read from text, and every bad value refused."""

import subprocess
import sys

import pytest

from batteries import InputError
from composer import Hold


def test_a_text_names_what_differs():
    assert Hold.parse("reconstruction=3,cv=0,anchor=2.5,content=0.9,every=10,backoffs=0") == Hold(3.0, 0.0, 2.5, 0.9, 10, 0)
    assert Hold.parse("cv=1") == Hold(cv=1.0)
    assert Hold.parse("guarded=0") == Hold(guarded=False)
    assert Hold.parse(" cv=1 , every=5") == Hold(cv=1.0, every=5)
    assert Hold(reconstruction=0, cv=0).words == "no term"
    assert Hold(anchor=3).words == "reconstruction 1 + cv 1 + anchor 3"


TEXTS = ["", "cv", "cv=", "cv=x", "volume=1", "cv=1,cv=2", "every=2.5", "cv=-1", "cv=nan", "content=1.1"]


@pytest.mark.parametrize("text", [*TEXTS, "every=0", "backoffs=-1", "guarded=2"])
def test_a_bad_text_is_refused(text):
    with pytest.raises(InputError, match="HOLD"):
        Hold.parse(text)


@pytest.mark.parametrize(
    "bad", [{"cv": -1.0}, {"anchor": float("inf")}, {"content": "0.9"}, {"every": True}, {"backoffs": 1.0}]
)
def test_bad_values_are_refused_and_named(bad):
    with pytest.raises(InputError, match="HOLD") as caught:
        Hold(**bad)
    assert next(iter(bad)) in str(caught.value)


def test_a_hold_needs_no_torch():
    code = "import sys, composer; composer.Hold.parse('cv=1'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
