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
VARIABLES = ("SSL_CERT_FILE", FOLDERS, *EITHER)  # the first that is set counts
HASHED = re.compile(r"[0-9a-fA-F]{8}\.[0-9]+")  # a certificate as OpenSSL looks it up in a folder

Named = tuple[str, str]


def named() -> Named | None:
    """The variable that counts, and its value; None where none is set: then it is the system's certificates."""
    return next(((name, value) for name in VARIABLES if (value := os.environ.get(name))), None)


def context(bundle: Named | None) -> ssl.SSLContext:
    """A context that trusts these certificates.

    Raises:
        InputError: they are not there, or no certificates (``CERTIFICATES``).
    """
    if bundle is None:
        return httpx2.create_ssl_context(trust_env=False)
    name, value = bundle
    try:
        if name == FOLDERS or (name in EITHER and Path(value).is_dir()):
            return _of_folders(value)
        return ssl.create_default_context(cafile=value)
    except OSError as error:
        remedy = f"Let {name} name a file of certificates in PEM form, or unset it."
        raise InputError(
            "the certificates to trust cannot be read",
            code="CERTIFICATES",
            found=error.strerror or error,
            where=f"{name}={value}",
            remedy=remedy,
        ) from error


def _of_folders(value: str) -> ssl.SSLContext:
    """Of folders, one after the other as OpenSSL has them."""
    folders = [folder for folder in value.split(os.pathsep) if folder]
    present = [Path(folder) for folder in folders if Path(folder).is_dir()]
    if not any(HASHED.fullmatch(path.name) for folder in present for path in folder.iterdir()):
        raise OSError("no folder with a certificate under the name that `openssl rehash` gives it")
    return ssl.create_default_context(capath=value)
