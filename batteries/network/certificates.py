"""The certificates to trust: those that the environment names, by any of the names that HTTP clients have for them."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import httpx2

from batteries.errors import InputError

FOLDERS = "SSL_CERT_DIR"
EITHER = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # a file, or a folder
VARIABLES = ("SSL_CERT_FILE", FOLDERS, *EITHER)  # all that are set count
HASHED = re.compile(r"[0-9a-fA-F]{8}\.[0-9]+")  # a certificate as OpenSSL looks it up in a folder

Named = tuple[tuple[str, str], ...]


def named() -> Named:
    """Variables that are set, each with its value; where none is, it is the system's certificates."""
    return tuple((name, value) for name in VARIABLES if (value := os.environ.get(name)))


def context(bundles: Named) -> ssl.SSLContext:
    """Context that trusts these certificates, and no others where there are any.

    Raises:
        InputError: some of them are not there, or no certificates (``CERTIFICATES``).
    """
    if not bundles:
        return httpx2.create_ssl_context(trust_env=False)
    found = None
    for name, value in bundles:
        try:
            file, folders = _places(name, value)
            if found is None:
                found = ssl.create_default_context(cafile=file, capath=folders)
            else:
                found.load_verify_locations(file, folders)
        except OSError as error:
            raise _unusable(name, value, error) from error
    assert found is not None, "one of them made it"
    return found


def _places(name: str, value: str) -> tuple[str | None, str | None]:
    """Where OpenSSL is to look: a file, or folders one after the other."""
    if name != FOLDERS and not (name in EITHER and Path(value).is_dir()):
        return value, None
    folders = [Path(folder) for folder in value.split(os.pathsep) if folder and Path(folder).is_dir()]
    if not any(HASHED.fullmatch(path.name) for folder in folders for path in folder.iterdir()):
        raise OSError("no folder with a certificate under the name that `openssl rehash` gives it")
    return None, value


def _unusable(name: str, value: str, error: OSError) -> InputError:
    what, remedy = "the certificates to trust cannot be read", f"Let {name} name certificates in PEM form, or unset it."
    found = error.strerror or error
    return InputError(what, code="CERTIFICATES", found=found, where=f"{name}={value}", remedy=remedy)
