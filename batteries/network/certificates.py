"""Trusted certificates, as named by any of the environment variables that HTTP clients use."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import httpx2

from batteries.errors import InputError

FOLDERS = "SSL_CERT_DIR"
EITHER = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # a file, or a folder
VARIABLES = ("SSL_CERT_FILE", FOLDERS, *EITHER)  # combined if several are set
HASHED = re.compile(r"[0-9a-fA-F]{8}\.[0-9]+")  # file name under which OpenSSL looks up a certificate in a folder

Named = tuple[tuple[str, str], ...]


def named() -> Named:
    """Return the variables that are set, with their values; if none is, the system's certificates are trusted."""
    return tuple((name, value) for name in VARIABLES if (value := os.environ.get(name)))


def context(bundles: Named) -> ssl.SSLContext:
    """Make a context that trusts only these certificates, or the system's if there are none.

    Raises:
        InputError: missing or unreadable certificates (``CERTIFICATES``).
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
    assert found is not None, "bundles is not empty"
    return found


def _places(name: str, value: str) -> tuple[str | None, str | None]:
    """Return the file or the list of folders that OpenSSL searches."""
    if name != FOLDERS and not (name in EITHER and Path(value).is_dir()):
        return value, None
    folders = [Path(folder) for folder in value.split(os.pathsep) if folder and Path(folder).is_dir()]
    if not any(HASHED.fullmatch(path.name) for folder in folders for path in folder.iterdir()):
        raise OSError("no folder with a certificate named by `openssl rehash`")
    return None, value


def _unusable(name: str, value: str, error: OSError) -> InputError:
    what, remedy = "unreadable trusted certificates", f"Set {name} to certificates in PEM form, or unset it."
    found = error.strerror or error
    return InputError(what, code="CERTIFICATES", found=found, where=f"{name}={value}", remedy=remedy)
