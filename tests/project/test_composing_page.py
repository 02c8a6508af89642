"""The page on composing runs as it stands."""

import re

import pytest

from tests.support.cells import ROOT


@pytest.mark.slow
def test_the_page_on_composing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "composing.md").read_text()
    (wiring,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (tmp_path / "wiring.toml").write_text(wiring)
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    names: dict = {}
    exec(compile(code, "composing.md", "exec"), names)  # noqa: S102  our own file
    assert names["scores"].shape == (8, 16)
    assert names["out"].error.shape == (8, 3)
    assert names["found"]["best"].choice.shape == (8, 256)
    assert (tmp_path / "model.safetensors").exists()
    assert names["mapped"].consensus.names == tuple(names["model"].names)
    assert names["late"].names == tuple(names["seeds"].names)
    assert [len(names["table"].pairs), names["pair"].target] == [3, "high/johanna-64-s3"]
    assert names["swap"].carries
