import pytest

from tests.support import hostile_server


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The folder of the servers' certificate, which is trusted."""
    (tmp_path / "trusted.pem").write_text(hostile_server.CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return tmp_path
