import pytest


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's own cache, configuration or registry."""
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.delenv("BATTERIES_REGISTRY", raising=False)
