"""What reads a file, as a table of mutants needs it: a good text, how a text becomes a file, and reading."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batteries.io import canonical_json
from tests.support.mutations import text_mutant, tree_mutant


@dataclass(frozen=True)
class Reader:
    """Something that is read.

    Attributes:
        text: A good text.
        file: Makes the file of a text; it sometimes damages more of it.
        seal: Makes the text of a tree that was changed, with digests that are right.
        read: Reads a file, and returns the bytes that it writes again; a reader that writes nothing returns what it was given.
        tree: Parses a text.
    """

    text: bytes
    file: Callable[[bytes, random.Random], bytes]
    seal: Callable[[Any], bytes]
    read: Callable[[bytes], bytes]
    tree: Callable[[bytes], Any] = json.loads

    def mutant(self, rng: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
        """A file of a text that was damaged, or of a tree that was changed.

        Args:
            rng: Draws the damage.
            others: Good texts of other readers, parts of which are put into this one.
        """
        if rng.random() < 0.5:
            return self.file(text_mutant(self.text, rng, others), rng)
        return self.file(self.seal(tree_mutant(self.tree(self.text), rng)), rng)


def plain(text: bytes, rng: random.Random) -> bytes:
    return text


def dumped(value: Any) -> bytes:
    """Canonical, but for what canonical JSON cannot hold: NaN, infinity, half a character."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def padded(value: Any) -> bytes:
    """A header as its format writes it: in the order given, with spaces up to eight bytes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return text.ljust(-(-len(text) // 8) * 8)


def resealed(field: str) -> Callable[[Any], bytes]:
    """Canonical, with the right digest of its content in a field, whatever became of that."""

    def sealed(value: Any) -> bytes:
        if isinstance(value, dict) and field in value:
            content = {key: inner for key, inner in value.items() if key != field}
            value = {**content, field: canonical_json.sha256(dumped(content))}
        return dumped(value)

    return sealed
