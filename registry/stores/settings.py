"""Addresses of registries, aliases and network modes, from arguments, the environment and the configuration file.

An argument takes precedence over ``BATTERIES_REGISTRY``, then the configuration file, then the registry shipped with this
package. The configuration file is ``config.toml`` in the platform's configuration folder:

    registry = "/data/cells"          # default, in place of the shipped registry

    [registries]
    lab = "/mnt/lab/cells"            # registry of lab/low/fresnel-256
    ours = "embedded"                 # shipped registry, of embedded/low/fresnel-256 as well

    [aliases]
    best = "low/fresnel-256@^1"       # reference that best stands for

    [trusted]
    lab = "3f1c..."                   # id of the key that must sign that registry, or a list of ids of which one must
"""

from __future__ import annotations

import os
import re
import warnings
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import platformdirs
from pydantic import Field, ValidationError, model_validator

import registry as registry_package  # its HubStore imports an HTTP client, on first use
from batteries.cell.manifest import Sha256, is_name
from batteries.errors import FormatError, InputError, NotFoundError, StoreError, StoreWarning
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, fields_of
from batteries.io.home import own_folder
from batteries.io.texts import toml_text
from batteries.network.hub_environment import offline_variable
from batteries.text import did_you_mean
from registry.catalog.reference import FORM, Reference
from registry.stores.directory import DirectoryStore
from registry.stores.signed.pinned_address import may_be_address
from registry.stores.store import Store

REGISTRY_VARIABLE = "BATTERIES_REGISTRY"
MODE_VARIABLE = "BATTERIES_MODE"
HUB = "hf://"
HERE = Path()  # the working directory, used for relative paths only: it may no longer exist
EMBEDDED = "embedded"  # the shipped registry, wherever it is installed; a folder of that name is ./embedded
MAX_CONFIG = 64 * 2**10

Mode = Literal["online", "prefer-cache", "offline"]


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class Settings(Document):
    """Contents of the configuration file."""

    registry: str | None = None
    registries: dict[str, str] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)
    trusted: dict[str, Sha256 | list[Sha256]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _pins_pin(self) -> Settings:
        """Refuse a pin without a key, or under a name or an address of no registry: it would pin nothing, in silence."""
        known = {*self.registries, EMBEDDED}
        for name, ids in self.trusted.items():
            if name not in known and "/" not in name and os.sep not in name:
                otherwise = f"Write an address, such as ./{name} or hf://owner/repo, or name it in [registries]."
                raise ValueError(f"trusted.{name}: no such registry. {did_you_mean(name, known, otherwise)}")
            if not ids:
                raise ValueError(f"trusted.{name}: no key. Write the id of a key, or remove the line.")
            if not may_be_address(self.registries.get(name, name)):
                raise ValueError(
                    f"trusted.{name}: no address of a registry. Write a folder, such as ./cells, or hf://owner/repo."
                )
        return self


def mode(text: str | None = None) -> Mode:
    """Return the network mode: the given one, else ``BATTERIES_MODE``, else ``online``.

    If ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE`` is set, every valid mode becomes ``offline``.

    Raises:
        InputError: unknown mode (``MODE``).
    """
    found = text or os.environ.get(MODE_VARIABLE) or "online"
    for known in get_args(Mode):
        if found == known:
            return "offline" if offline_variable() else known
    raise InputError("unknown mode", code="MODE", expected=" | ".join(get_args(Mode)), found=found)


def is_remote(address: str) -> bool:
    """Return whether an address is on the Hub."""
    return address.startswith(HUB)


def config_file() -> Path:
    """Return the path of the configuration file, which need not exist."""
    return own_folder(platformdirs.user_config_path) / "config.toml"


def settings() -> Settings:
    """Read the configuration file; without one, return empty settings, and warn if it is inaccessible.

    Raises:
        FormatError: not TOML, or unknown keys or values (``CONFIG``).
    """
    path = config_file()
    try:
        data = atomic_files.read(path, limit=MAX_CONFIG, links=True)
    except NotFoundError:
        return Settings()
    except StoreError as error:
        if not atomic_files.is_closed(error):
            raise
        _warn_unread(error, path)
        return Settings()
    try:
        return Settings.model_validate(toml_text.parse(data, where=path, limit=MAX_CONFIG))
    except FormatError as error:
        raise _bad_config(path, error.found or error.what) from error
    except ValidationError as error:
        raise _bad_config(path, fields_of(error)) from error


def open_store(registry: str | Path | None = None, *, writable: bool = False) -> Store:
    """Open the store of a registry.

    Args:
        registry: Folder, ``embedded`` or ``hf://owner/repo[@revision]``; None means the default registry.
        writable: Whether to open it for writing. It must then be named, and its folder need not exist yet.

    Raises:
        InputError: unsupported address (``SCHEME``), or no registry named for writing (``NO_TARGET``).
        NotFoundError: no such folder (``NO_REGISTRY``).

    >>> import registry
    >>> store = registry.open_store()
    >>> store.url, store.keys("low/fresnel-64")[0]
    ('embedded', 'low/fresnel-64/1.0.0.json')
    """
    if writable and not (registry is not None and str(registry)):
        raise InputError(
            "no registry to write to",
            code="NO_TARGET",
            expected="a folder",
            remedy="Name one: nothing is published by default.",
        )
    return open_at(*address(registry), writable=writable)


def address(registry: str | Path | None = None) -> tuple[str, Path]:
    """Return the address of a registry, and the base folder of a relative address.

    Args:
        registry: Address; None means the default registry.

    Raises:
        FormatError: invalid configuration file (``CONFIG``).
    """
    if registry is not None and str(registry):
        return str(registry), HERE
    if named := os.environ.get(REGISTRY_VARIABLE):
        return named, HERE
    if configured := settings().registry:
        return configured, config_file().parent
    return EMBEDDED, HERE


def address_of(name: str) -> tuple[str, Path]:
    """Return the address of a registry named in the configuration file, and the base folder of a relative address.

    Raises:
        NotFoundError: unknown registry (``NO_REGISTRY``).
    """
    registries = settings().registries
    if name == EMBEDDED and name not in registries:
        return EMBEDDED, HERE
    if name not in registries:
        raise NotFoundError(
            "unknown registry",
            code="NO_REGISTRY",
            expected=f"one of {', '.join(sorted(registries))}" if registries else None,
            found=name,
            where=config_file(),
            remedy=f'Add the line {name} = "/path/of/the/registry" to the table [registries] of that file.',
        )
    return registries[name], config_file().parent


def expand(text: str) -> Reference:
    """Parse a reference, or look up an alias in the configuration file; an alias contains no ``/``.

    Raises:
        InputError: neither a reference nor a name (``BAD_REFERENCE``), or not a string (``REFERENCE``).
        NotFoundError: unknown alias (``NO_ALIAS``).
        FormatError: alias of an alias (``ALIAS_OF_ALIAS``), or of an invalid reference (``CONFIG``).
    """
    if not isinstance(text, str):
        remedy = "A reference is a string; registry.pull and registry.verify take a list of them."
        raise InputError("not a reference", code="REFERENCE", expected=FORM, found=repr(text)[:60], remedy=remedy)
    if not is_name(text):
        return Reference.parse(text)
    aliases = settings().aliases
    if text not in aliases:
        otherwise = f"A reference is {FORM}; aliases are lines of the table [aliases] in that file."
        raise NotFoundError(
            "unknown alias",
            code="NO_ALIAS",
            expected=f"band/name, or one of {', '.join(sorted(aliases))}" if aliases else "band/name",
            found=text,
            where=config_file(),
            remedy=did_you_mean(text, aliases, otherwise),
        )
    if "/" not in aliases[text]:
        raise FormatError(
            "alias of an alias",
            code="ALIAS_OF_ALIAS",
            expected="a reference",
            found=aliases[text],
            where=f"{config_file()}: {text}",
            remedy="Replace it by the reference that it should stand for.",
        )
    try:
        return Reference.parse(aliases[text])
    except InputError as error:
        raise _bad_config(f"{config_file()}: {text}", error) from error


def embedded() -> Path:
    """Return the folder of the shipped registry: inside the package if installed, beside it in a checkout.

    Raises:
        NotFoundError: incomplete installation (``NO_REGISTRY``).
    """
    package = Path(str(resources.files("registry"))).resolve()
    for folder in (package / "manifests", package.parent / "manifests"):
        if folder.is_dir():
            return folder
    raise NotFoundError("embedded registry missing", code="NO_REGISTRY", where=package, remedy="Install svae-batteries again.")


def open_at(address: str, base: Path, *, writable: bool = False) -> Store:
    """Open the store at an address; the embedded one is always read-only.

    Raises:
        InputError: unsupported address (``SCHEME``), not a folder, or not a repository of the Hub.
        NotFoundError: no such folder (``NO_REGISTRY``).
    """
    if address == EMBEDDED:
        return DirectoryStore(embedded(), writable=False, name=EMBEDDED)
    if is_remote(address):
        return registry_package.HubStore(address, writable=writable)
    if scheme := _SCHEME.match(address):
        raise InputError(
            "unsupported address",
            code="SCHEME",
            expected="a folder, embedded or hf://owner/repo[@revision]",
            found=f"{scheme[1]}://",
            remedy="Use one of these forms.",
        )
    path, exists = _folder(address, base)
    if not writable and not exists:
        named = f"The shipped registry is named {EMBEDDED}, without a slash." if path.name == EMBEDDED else None
        remedy = named or "Check the path, or publish a cell to it."
        raise NotFoundError("no such registry", code="NO_REGISTRY", found=path, remedy=remedy)
    return DirectoryStore(path, writable=writable, name=EMBEDDED if not writable and _is_embedded(path) else None)


def _is_embedded(path: Path) -> bool:
    """Return whether a folder is that of the shipped registry, which has the same name on every machine."""
    try:
        return path.samefile(embedded())
    except (OSError, NotFoundError):
        return False


def _folder(address: str, base: Path) -> tuple[Path, bool]:
    """Return the path that an address means, and whether the folder exists."""
    try:
        path = base / Path(address).expanduser()
        path.lstat()
        is_folder = path.is_dir()
    except FileNotFoundError:
        return path, False
    except (OSError, RuntimeError, ValueError) as error:  # no permission, no such user, a NUL
        raise InputError("unusable path", code="BAD_PATH", found=repr(address), where=error) from error
    if not is_folder:
        raise InputError("not a registry", code="NOT_A_FOLDER", expected="a folder", found=path)
    return path, True


def _warn_unread(error: StoreError, path: Path) -> None:
    if not isinstance(error.__cause__, NotADirectoryError):  # a parent that is a file cannot hold one
        what, remedy = "unreadable configuration file ignored", "Make it readable, or set another XDG_CONFIG_HOME."
        warnings.warn(StoreWarning(what, code="NO_CONFIG", where=path, remedy=remedy), stacklevel=1)


def _bad_config(path: object, found: object) -> FormatError:
    return FormatError(
        "invalid configuration file",
        code="CONFIG",
        expected='TOML with registry = "..." and tables [registries], [aliases] and [trusted]',
        found=found,
        where=path,
        remedy="Correct the file or remove it.",
    )
