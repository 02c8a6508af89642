"""Signers of a change of a registry, read from their files of keys."""

from __future__ import annotations

import getpass
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from batteries import short_repr
from batteries.errors import InputError
from registry.trust import keys, signed_documents
from registry.trust.signature import short_id
from registry.trust.signed_documents import DAYS, time_text

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

MAX_DAYS = 36_500


@dataclass(frozen=True)
class Signing:
    """Signers of a change, and how long their signature of the index is valid.

    Attributes:
        signers: Signers.
        expires: Time after which the signature is not valid.

    >>> import pathlib
    >>> import registry
    >>> from registry.trust.keys import make_key
    >>> key = make_key(pathlib.Path("key.pem"))
    >>> signing = registry.Signing.read("key.pem")
    >>> store = registry.MemoryStore()
    >>> published = registry.publish(registry.load("low/fresnel-64"), store, signing=signing)
    >>> [finding.ok for finding in registry.verify("low/fresnel-64", registry=store, signed_by=[key.keyid])]
    [True, True, True]
    """

    signers: tuple[CryptoSigner, ...]
    expires: datetime

    def __repr__(self) -> str:
        by = f"by {', '.join(short_id(keyid) for keyid in self.ids)}"
        return short_repr.headed(self, by, f"valid until {time_text(self.expires)}")

    @classmethod
    def read(cls, *paths: str | Path, days: float = DAYS, prompt: keys.Prompt = getpass.getpass) -> Signing:
        """Read the private keys of signers.

        Args:
            paths: Files of private keys, as ``batteries key new`` writes them.
            days: Days for which a signature of an index is valid.
            prompt: Function that asks for the passphrase of an encrypted file, unless ``BATTERIES_KEY_PASSPHRASE`` is set.

        Raises:
            InputError: no key (``KEY``), number of days out of range (``DAYS``), wrong passphrase (``PASSPHRASE``), or the
                extra is not installed (``EXTRA``).
            FormatError: file that is not a private key (``KEY_FORMAT``).
            NotFoundError: no such file.
        """
        if not paths:
            raise InputError("no key to sign with", code="KEY", expected="files of private keys")
        if not 0 < days <= MAX_DAYS:
            raise InputError("invalid number of days", code="DAYS", expected=f"more than 0, at most {MAX_DAYS}", found=days)
        signers = {signer.public_key.keyid: signer for signer in (keys.read_signer(Path(path), prompt) for path in paths)}
        return cls(tuple(signers.values()), signed_documents.in_days(days))

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the signers' keys, sorted."""
        return tuple(sorted(signer.public_key.keyid for signer in self.signers))

    def by(self, ids: Collection[str]) -> Signing:
        """Return the signing by those signers whose keys are among some."""
        return Signing(tuple(signer for signer in self.signers if signer.public_key.keyid in ids), self.expires)
