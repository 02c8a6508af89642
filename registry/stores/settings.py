"""Which registry, and where the cache is.

An argument goes before ``BATTERIES_REGISTRY``, which goes before the configuration file, which goes before the registry that
ships with this package. The configuration file is ``config.toml`` in the platform's configuration folder:

    registry = "/data/cells"          # in place of the embedded one

    [registries]
    lab = "/mnt/lab/cells"            # what lab/low/fresnel-256 means
    ours = "embedded"                 # the one that ships, which embedded/low/fresnel-256 means as well

    [aliases]
    best = "low/fresnel-256@^1"       # what best means
"""

from __future__ import annotations

import os
import re
import tomllib
import warnings
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import platformdirs
from pydantic import Field, ValidationError

import registry as registry_package  # its HubStore imports an HTTP client, on first use
from batteries.cell.manifest import is_name
from batteries.errors import FormatError, InputError, NotFoundError, StoreError, StoreWarning
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, fields_of
from batteries.io.home import own_folder
from batteries.io.text import did_you_mean
from batteries.network.hub_environment import offline_variable
from registry.catalog.reference import FORM, Reference
from registry.stores.directory import DirectoryStore
from registry.stores.store import Store

REGISTRY_VARIABLE = "BATTERIES_REGISTRY"
MODE_VARIABLE = "BATTERIES_MODE"
HUB = "hf://"
HERE = Path()  # the working directory, which is looked at for relative paths only: it may be gone
EMBEDDED = "embedded"  # the registry that ships, wherever it lies; a folder of that name is ./embedded
MAX_CONFIG = 64 * 2**10

Mode = Literal["online", "prefer-cache", "offline"]


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class Settings(Document):
    """What the configuration file says."""

    registry: str | None = None
    registries: dict[str, str] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)


def mode(text: str | None = None) -> Mode:
    """Whether the network may and must be asked: what is given, else ``BATTERIES_MODE``, else ``online``.

    Whatever it says, it is ``offline`` where ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE`` is set.

    Raises:
        InputError: none of the three (``MODE``).
    """
    found = text or os.environ.get(MODE_VARIABLE) or "online"
    for known in get_args(Mode):
        if found == known:
            return "offline" if offline_variable() else known
    raise InputError("no such mode", code="MODE", expected=" | ".join(get_args(Mode)), found=found)


def is_remote(address: str) -> bool:
    """Whether an address is not on this machine."""
    return address.startswith(HUB)


def config_file() -> Path:
    """Where the configuration file is, if there is one."""
    return own_folder(platformdirs.user_config_path) / "config.toml"


def settings() -> Settings:
    """What the configuration file says; nothing where there is none, and a warning where it cannot be reached.

    Raises:
        FormatError: not TOML, or keys and values other than those above (``CONFIG``).
    """
    path = config_file()
    try:
        text = atomic_files.read(path, limit=MAX_CONFIG, links=True).decode("utf-8-sig")
    except NotFoundError:
        return Settings()
    except StoreError as error:
        if not atomic_files.is_closed(error):
            raise
        _warn_unread(error, path)
        return Settings()
    except UnicodeDecodeError as error:
        raise _bad_config(path, error) from error
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _bad_config(path, error) from error
    except ValidationError as error:
        raise _bad_config(path, fields_of(error)) from error


def open_store(registry: str | Path | None = None, *, writable: bool = False) -> Store:
    """Store of a registry.

    Args:
        registry: A folder, ``embedded`` or ``hf://owner/repo[@revision]``; None means the registry in force.
        writable: Whether it is to be written to. Then it must be named, and its folder need not be there yet.

    Raises:
        InputError: an address that this version cannot open (``SCHEME``), or no target to write to (``NO_TARGET``).
        NotFoundError: no such folder (``NO_REGISTRY``).
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
    """Address of a registry, and the folder that a relative one starts from.

    Args:
        registry: A folder; None means the registry in force.

    Raises:
        FormatError: a configuration file that cannot be used.
    """
    if registry is not None and str(registry):
        return str(registry), HERE
    if named := os.environ.get(REGISTRY_VARIABLE):
        return named, HERE
    if configured := settings().registry:
        return configured, config_file().parent
    return EMBEDDED, HERE


def address_of(name: str) -> tuple[str, Path]:
    """Address that the first part of a reference means, by the configuration file.

    Raises:
        NotFoundError: no registry of that name (``NO_REGISTRY``).
    """
    registries = settings().registries
    if name == EMBEDDED and name not in registries:
        return EMBEDDED, HERE
    if name not in registries:
        raise NotFoundError(
            "no registry of that name",
            code="NO_REGISTRY",
            expected=f"one of {', '.join(sorted(registries))}" if registries else None,
            found=name,
            where=config_file(),
            remedy=f'Add a line to that file: [registries] {name} = "/path/of/the/registry".',
        )
    return registries[name], config_file().parent


def expand(text: str) -> Reference:
    """Reference that somebody typed: in full, or as an alias of the configuration file, which has no ``/``.

    Raises:
        InputError: neither a reference nor a name (``BAD_REFERENCE``), or no text (``REFERENCE``).
        NotFoundError: no such alias (``NO_ALIAS``).
        FormatError: an alias of an alias (``ALIAS_OF_ALIAS``), or of what is no reference (``CONFIG``).
    """
    if not isinstance(text, str):
        remedy = "One reference is a text; registry.pull and registry.verify take a list of them."
        raise InputError("not a reference", code="REFERENCE", expected=FORM, found=repr(text)[:60], remedy=remedy)
    if not is_name(text):
        return Reference.parse(text)
    aliases = settings().aliases
    if text not in aliases:
        otherwise = f"A reference is {FORM}; aliases are lines of the table [aliases] in that file."
        raise NotFoundError(
            "no such alias",
            code="NO_ALIAS",
            expected=f"band/name, or one of {', '.join(sorted(aliases))}" if aliases else "band/name",
            found=text,
            where=config_file(),
            remedy=did_you_mean(text, aliases, otherwise),
        )
    if "/" not in aliases[text]:
        raise FormatError(
            "an alias of an alias",
            code="ALIAS_OF_ALIAS",
            expected="a reference",
            found=aliases[text],
            where=f"{config_file()}: {text}",
            remedy="Write there what it is to mean in the end.",
        )
    try:
        return Reference.parse(aliases[text])
    except InputError as error:
        raise _bad_config(f"{config_file()}: {text}", error) from error


def embedded() -> Path:
    """Folder of the registry that ships with this package: inside it when installed, beside it in a checkout.

    Raises:
        NotFoundError: the installation is incomplete (``NO_REGISTRY``).
    """
    package = Path(str(resources.files("registry"))).resolve()
    for folder in (package / "manifests", package.parent / "manifests"):
        if folder.is_dir():
            return folder
    raise NotFoundError(
        "the embedded registry is missing", code="NO_REGISTRY", where=package, remedy="Install svae-batteries again."
    )


def open_at(address: str, base: Path, *, writable: bool = False) -> Store:
    """Store at an address; the embedded one is never written to.

    Raises:
        InputError: an address that this version cannot open (``SCHEME``), or that is no folder, or no repository of the Hub.
        NotFoundError: no such folder (``NO_REGISTRY``).
    """
    if address == EMBEDDED:
        return DirectoryStore(embedded(), writable=False, name=EMBEDDED)
    if is_remote(address):
        return registry_package.HubStore(address, writable=writable)
    if scheme := _SCHEME.match(address):
        raise InputError(
            "an address that this version cannot open",
            code="SCHEME",
            expected="a folder, embedded or hf://owner/repo[@revision]",
            found=f"{scheme[1]}://",
            remedy="Name one of these.",
        )
    path, exists = _folder(address, base)
    if not writable and not exists:
        named = f"The registry that ships is named {EMBEDDED}, without a slash." if path.name == EMBEDDED else None
        remedy = named or "Check the path, or publish a cell to it."
        raise NotFoundError("no such registry", code="NO_REGISTRY", found=path, remedy=remedy)
    return DirectoryStore(path, writable=writable, name=EMBEDDED if not writable and _is_embedded(path) else None)


def _is_embedded(path: Path) -> bool:
    """Whether a folder is that of the registry that ships, which has a name on every machine."""
    try:
        return path.samefile(embedded())
    except (OSError, NotFoundError):
        return False


def _folder(address: str, base: Path) -> tuple[Path, bool]:
    """Path that an address means, and whether there is a folder."""
    try:
        path = base / Path(address).expanduser()
        path.lstat()
        is_folder = path.is_dir()
    except FileNotFoundError:
        return path, False
    except (OSError, RuntimeError, ValueError) as error:  # no permission, no such user, a NUL
        raise InputError("a path that cannot be used", code="BAD_PATH", found=repr(address), where=error) from error
    if not is_folder:
        raise InputError("not a registry", code="NOT_A_FOLDER", expected="a folder", found=path)
    return path, True


def _warn_unread(error: StoreError, path: Path) -> None:
    if not isinstance(error.__cause__, NotADirectoryError):  # then there is none
        what, remedy = "the configuration file cannot be read, and is left out", "Allow it, or name another XDG_CONFIG_HOME."
        warnings.warn(StoreWarning(what, code="NO_CONFIG", where=path, remedy=remedy), stacklevel=1)


def _bad_config(path: object, found: object) -> FormatError:
    return FormatError(
        "a configuration file that cannot be used",
        code="CONFIG",
        expected='TOML with registry = "..." and tables [registries] and [aliases]',
        found=found,
        where=path,
        remedy="Correct the file or remove it.",
    )
