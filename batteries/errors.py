"""Errors of all three packages, and the exit code of each on the command line.

    BatteriesError                       1
    ├── InputError (a ValueError)        2   unusable argument, option or input
    ├── NotFoundError                    3   missing cell, version, file or image
    │   └── UnknownKeyError (a KeyError) 3   unknown name in a mapping
    ├── FormatError                      4   malformed file or document
    ├── IntegrityError                   4   bytes that differ from their recorded digest or size
    ├── TransportError                   5   network failure, or no network
    ├── PolicyError                      6   well-formed input that a rule refuses
    │   └── FrozenError                  6   write to a frozen object
    ├── ConflictError                    6   conflict with another writer's version, or a lost race
    └── StoreError                       8   local disk failure: space, permission, device

A StoreWarning reports that the local disk lacks a feature, although the operation succeeds.

Exit code 7, *not viable*, is a verdict and not an error. Every error prints as

    digest mismatch in a.safetensors: expected sha256 32c0..., got 07fd... [DIGEST_MISMATCH]
      Download the file again.

with the fault first, then the place, the expected and actual values, and the remedy. ``code`` is stable and machine-readable.
"""

from __future__ import annotations

import copyreg
from typing import Any, ClassVar


class BatteriesError(Exception):
    """Base class of all errors. Public functions raise no other type on bad input.

    Args:
        what: Short name of the fault, such as ``"digest mismatch"``.
        code: Stable machine-readable name, such as ``"DIGEST_MISMATCH"``.
        expected: Value that would have been accepted.
        found: Value found instead.
        where: File, cell, key or field at fault.
        remedy: Advice to the user.
        retryable: True if the same call may succeed later.

    >>> import batteries, registry
    >>> try:
    ...     registry.load("low/fresnel-65")
    ... except batteries.BatteriesError as error:
    ...     error.code, error.found, error.retryable
    ('NO_CELL', 'low/fresnel-65', False)
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

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all fields in a pickle, which would call the constructor with its first argument alone."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        where = "" if self.where is None else f" in {self.where}"
        compared = {"expected": self.expected, "got": self.found}
        figures = ", ".join(f"{word} {value}" for word, value in compared.items() if value is not None)
        sentence = f"{self.what}{where}{figures and ': ' + figures} [{self.code}]"
        return sentence if self.remedy is None else f"{sentence}\n  {self.remedy}"


class InputError(BatteriesError, ValueError):
    """Unusable argument, option or input.

    >>> import batteries
    >>> try:
    ...     batteries.probe("photos-65")
    ... except batteries.InputError as error:
    ...     print(error)
    unknown probe: expected noise16-64 | noise16p-64 | photos-64 | photos-256, got photos-65 [NO_PROBE]
    """

    exit_code = 2


class NotFoundError(BatteriesError):
    """Missing cell, version, file or image.

    >>> import batteries, registry
    >>> try:
    ...     registry.load("low/johanna-p-64@9.9.9")
    ... except batteries.NotFoundError as error:
    ...     error.code, error.expected
    ('NO_VERSION', 'one of 1.0.0')
    """

    exit_code = 3


class UnknownKeyError(NotFoundError, KeyError):
    """A name that a mapping does not have."""


class FormatError(BatteriesError):
    """Malformed file or document.

    >>> import batteries
    >>> try:
    ...     batteries.Manifest.from_bytes(b"{", where="mine-64.json")
    ... except batteries.FormatError as error:
    ...     error.code, error.where
    ('JSON', 'mine-64.json')
    """

    exit_code = 4


class IntegrityError(BatteriesError):
    """Bytes that differ from their recorded digest or size.

    >>> import batteries, registry
    >>> cell = registry.load("low/fresnel-64")
    >>> try:
    ...     batteries.Cell.from_bytes(cell.to_bytes()[:-1], cell.manifest, where="fresnel-64.safetensors")
    ... except batteries.IntegrityError as error:
    ...     error.code
    'SIZE_MISMATCH'
    """

    exit_code = 4


class TransportError(BatteriesError):
    """Network failure, or no network.

    >>> import batteries, registry
    >>> try:
    ...     registry.pull("low/mine-64", registry="hf://me/cells", mode="offline")
    ... except batteries.TransportError as error:
    ...     error.code
    'OFFLINE'
    """

    exit_code = 5


class PolicyError(BatteriesError):
    """Well-formed input that a rule refuses.

    >>> import batteries, composer, registry
    >>> out = composer.compose(registry.load("low/fresnel-64"))(batteries.probe("photos-64").images[:1], taps=["omega"])
    >>> try:
    ...     out.recon
    ... except batteries.PolicyError as error:
    ...     error.code
    'NO_TAP'
    """

    exit_code = 6


class FrozenError(PolicyError):
    """Write to a frozen object.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.load("low/fresnel-64"))
    >>> weight = next(model.buffers())
    >>> try:
    ...     weight.zero_()
    ... except batteries.FrozenError as error:
    ...     error.code
    'FROZEN'
    """


class ConflictError(BatteriesError):
    """Conflict with another writer's version, or a lost race.

    >>> import batteries, composer, registry
    >>> cell = registry.load("low/fresnel-64")
    >>> try:
    ...     composer.compose([cell, cell])
    ... except batteries.ConflictError as error:
    ...     error.code
    'TWICE'
    """

    exit_code = 6


class StoreError(BatteriesError):
    """Local disk failure: space, permission, device. On the command line also a lack of memory.

    >>> import pathlib
    >>> import batteries, registry
    >>> pathlib.Path("cells").touch()
    >>> try:
    ...     registry.load("low/fresnel-64").write("cells")
    ... except batteries.StoreError as error:
    ...     error.code
    'DISK'
    """

    exit_code = 8


class StoreWarning(UserWarning):
    """Missing feature of the local disk, although the operation succeeds.

    Args:
        what: Short name of the limitation.
        code: Stable machine-readable name, such as ``"NO_CACHE"``.
        where: Folder concerned.
        remedy: Advice to the user.
    """

    def __init__(self, what: str, *, code: str, where: object, remedy: str) -> None:
        self.what = what
        self.code = code
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.what} in {self.where} [{self.code}]\n  {self.remedy}"
