"""Keys on the command line: made, used, changed, pinned; what is printed, and what never is."""

import getpass
import io
import json

import pytest

from batteries.errors import InputError
from registry.answers.trust import KeyAnswer, KeysAnswer
from registry.cli.terminal.signing_options import read_passphrase
from registry.stores.settings import config_file
from registry.trust import keys
from tests.support.cells import tiny
from tests.support.commands import answered, run

pytestmark = pytest.mark.filterwarnings("ignore::registry.stores.signed.trust_guard.SignerWarning")


@pytest.fixture
def key(tmp_path, capsys):
    """Make a key, and return its private file and its id."""

    def made(name):
        path = tmp_path / name
        return path, answered(capsys, KeyAnswer, "key", "new", path).key

    return made


def test_a_registry_from_its_first_signature_to_its_second_key(tmp_path, capsys, by_hand, key):
    target, (first, old), (second, new) = tmp_path / "signed", key("a.pem"), key("b.pem")
    file = tiny().write(tmp_path)
    code, out, err = run(capsys, "publish", file, "--to", target, "--sign", first)
    assert code == 0, err
    assert f"signed by {old[:16]}" in err
    code, out, err = run(capsys, "list", "--registry", target)
    assert f"signed by {old}, seen for the first time" in err
    assert f"; signed by {old[:16]}" in err
    for words in (
        ("publish", tiny("other").write(tmp_path), "--to", target),
        ("yank", "high/tiny@1.0.0", "--reason", "wrong", "--registry", target),
        ("mirror", "embedded", target),
        ("validate", file, "--attest", target),
        ("adapt", file, "--task", "naming", "--attest", target),
    ):
        code, out, err = run(capsys, *words)
        assert (code, "SIGNER_NEEDED" in err) == (6, True), err
    other = tiny("other", seed=2).write(tmp_path / "other")
    for words in (("validate", other), ("adapt", other, "--task", "naming")):  # before they compute anything
        code, out, err = run(capsys, *words, "--attest", target, "--sign", first)
        assert (code, "NO_CELL" in err) == (3, True), err
    assert run(capsys, "yank", "high/tiny@1.0.0", "--reason", "wrong", "--registry", target, "--sign", first)[0] == 0
    rotation = ("key", "rotate", target, "--add", f"{second}.pub", "--remove", old)
    code, out, err = run(capsys, *rotation, "--sign", first)
    assert (code, "NOT_ENOUGH_SIGNERS" in err) == (6, True)
    found = answered(capsys, KeysAnswer, *rotation, "--sign", first, "--sign", second)
    assert (found.keys, found.revoked, found.threshold, found.root) == ((new,), (old,), 1, 2)
    assert answered(capsys, KeysAnswer, "key", "show", target) == found
    code, out, err = run(capsys, "key", "refresh", target, "--sign", first)
    assert (code, "KEY_REVOKED" in err) == (4, True)
    assert run(capsys, "key", "refresh", target, "--sign", second, "--days", "30")[0] == 0
    assert run(capsys, "verify", "--all", "--registry", target, "--signed-by", f"{second}.pub", "--signed-by", old)[0] == 0
    code, out, err = run(capsys, "verify", "--all", "--registry", target, "--signed-by", "f" * 64)
    assert (code, err.count("WRONG_SIGNER")) == (4, 2)
    code, out, err = run(capsys, "show", "high/tiny@1.0.0", "--registry", target, "--json")
    shown = json.loads(out)
    assert (shown["signature"]["signers"], shown["index_signature"]["signers"]) == ([old], [new])


def test_a_pin_of_another_key_is_an_exit_code_of_integrity(tmp_path, capsys, by_hand, key):
    path, _ = key("a.pem")
    assert run(capsys, "publish", tiny().write(tmp_path), "--to", tmp_path / "signed", "--sign", path)[0] == 0
    config_file().parent.mkdir(parents=True)
    config_file().write_text(f'[trusted]\n"{tmp_path / "signed"}" = "{"f" * 64}"\n')
    code, out, _ = run(capsys, "pull", "high/tiny", "--registry", tmp_path / "signed", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (4, "WRONG_SIGNER")


def test_neither_the_private_key_nor_its_passphrase_is_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(keys.PASSPHRASE, "sesame")
    path = tmp_path / "key.pem"
    code, out, err = run(capsys, "key", "new", path, "--passphrase")
    assert code == 0
    shown = run(capsys, "key", "show", path)[1] + run(capsys, "key", "show", f"{path}.pub")[1]
    assert len(set(shown.split())) == 1
    secret = path.read_text().split("\n")[1]
    assert "ENCRYPTED" in path.read_text()
    assert secret not in out + err + shown
    assert "sesame" not in out + err + shown
    monkeypatch.delenv(keys.PASSPHRASE)
    code, out, err = run(capsys, "key", "show", path)
    assert (code, "no terminal" in err) == (2, True)


@pytest.mark.parametrize(("typed", "said"), [(b"", "the end of the input"), (b"\xff\xfe\n", "bytes that are no text")])
def test_a_passphrase_that_is_cut_off_or_no_text_is_refused(monkeypatch, typed, said):
    terminal = io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8")
    monkeypatch.setattr("getpass.getpass", lambda words: getpass._raw_input(words, io.StringIO(), terminal))  # but for the echo
    with pytest.raises(InputError, match="PASSPHRASE") as caught:
        read_passphrase("passphrase: ")
    assert caught.value.found == said


def test_signing_without_anything_to_sign_is_refused(tmp_path, capsys, key):
    path, _ = key("a.pem")
    code, _, err = run(capsys, "validate", "low/fresnel-64", "--sign", path)
    assert (code, "USAGE" in err) == (2, True)
