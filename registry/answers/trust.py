"""Answers of the commands of keys under ``--json``; their schemas are exported to ``docs/schema``."""

from __future__ import annotations

from batteries.cell.manifest import Count, Sha256
from registry.answers.answer import Answer
from registry.trust.signature import Signature


class KeyAnswer(Answer):
    """A key, and its files.

    Attributes:
        key: Id of the key.
        private: Path of the private file; None if it was not named.
        public: Path of the public file; None if it was not named.
    """

    key: Sha256
    private: str | None
    public: str | None


class KeysAnswer(Answer):
    """Keys of a registry, and the signature of its index.

    Attributes:
        registry: Address of the registry.
        number: Number of its index.
        signature: Signature of its index.
        root: Number of the document of keys in force; 0 if the registry has none.
        keys: Ids of the keys that may sign.
        threshold: Number of keys that must sign; 0 if the registry has none.
        revoked: Ids of the keys that could sign once.
    """

    registry: str
    number: Count
    signature: Signature
    root: Count
    keys: tuple[Sha256, ...]
    threshold: Count
    revoked: tuple[Sha256, ...]


TRUST: dict[str, type[Answer]] = {
    "key-new": KeyAnswer,
    "key-show": KeysAnswer,
    "key-rotate": KeysAnswer,
    "key-refresh": KeysAnswer,
}
