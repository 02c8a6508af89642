"""The one tree of errors, and the exit code each class has on the command line.

    BatteriesError                       1
    ├── InputError (a ValueError)        2   an argument, an option or an input that cannot be used
    ├── NotFoundError                    3   no such cell, version, file or image
    │   └── UnknownKeyError (a KeyError) 3   a name that a mapping does not have
    ├── FormatError                      4   bytes that are not what they claim to be
    ├── IntegrityError                   4   bytes that are not the ones that were promised
    ├── TransportError                   5   the network, or the lack of it
    ├── PolicyError                      6   well-formed, and refused
    │   └── FrozenError                  6   a write to something frozen
    ├── ConflictError                    6   somebody else's version, or a lost race
    └── StoreError                       8   the local disk: space, permission, a failing device

A StoreWarning says that the local disk does less than it does elsewhere, where what was asked is done all the same.

Exit code 7, *not viable*, is a verdict and not an error. Every error reads

    digest mismatch in a.safetensors: expected sha256 32c0..., got 07fd... [DIGEST_MISMATCH]
      Download the file again.

the field's term first, then where, what was expected, what was found and what to do. ``code`` is stable and machine-readable.
"""

from __future__ import annotations

from typing import ClassVar


class BatteriesError(Exception):
    """The root. Nothing else leaves the public functions on bad input.

    Args:
        what: One clause that says what went wrong.
        code: A stable machine-readable name such as ``"DIGEST_MISMATCH"``.
        expected: What would have been right.
        found: What was there instead.
        where: The file, cell, key or field.
        remedy: What the user can do about it.
        retryable: Whether the same call may succeed later.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        code: str,
        expected: object = None,
        found: object = None,
        where: object = None,
        remedy: str | None = None,
        retryable: bool = False,
    ) -> None:
        self.what = what
        self.code = code
        self.expected = expected
        self.found = found
        self.where = where
        self.remedy = remedy
        self.retryable = retryable
        super().__init__(what)

    def __str__(self) -> str:
        where = "" if self.where is None else f" in {self.where}"
        compared = {"expected": self.expected, "got": self.found}
        figures = ", ".join(f"{word} {value}" for word, value in compared.items() if value is not None)
        sentence = f"{self.what}{where}{figures and ': ' + figures} [{self.code}]"
        return sentence if self.remedy is None else f"{sentence}\n  {self.remedy}"


class InputError(BatteriesError, ValueError):
    """An argument, an option or an input that cannot be used."""

    exit_code = 2


class NotFoundError(BatteriesError):
    """No such cell, version, file or image."""

    exit_code = 3


class UnknownKeyError(NotFoundError, KeyError):
    """A name that a mapping does not have."""


class FormatError(BatteriesError):
    """Bytes that are not what they claim to be."""

    exit_code = 4


class IntegrityError(BatteriesError):
    """Bytes that are not the ones that were promised."""

    exit_code = 4


class TransportError(BatteriesError):
    """The network, or the lack of it."""

    exit_code = 5


class PolicyError(BatteriesError):
    """Well-formed, and refused."""

    exit_code = 6


class FrozenError(PolicyError):
    """A write to something frozen."""


class ConflictError(BatteriesError):
    """Somebody else's version, or a lost race."""

    exit_code = 6


class StoreError(BatteriesError):
    """The local disk: space, permission, a failing device."""

    exit_code = 8


class StoreWarning(UserWarning):
    """The local disk does less than it does elsewhere; what was asked is done all the same.

    Args:
        what: One clause that says what is not done.
        code: A stable machine-readable name such as ``"NO_CACHE"``.
        where: The folder.
        remedy: What the user can do about it.
    """

    def __init__(self, what: str, *, code: str, where: object, remedy: str) -> None:
        self.what = what
        self.code = code
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.what} in {self.where} [{self.code}]\n  {self.remedy}"
