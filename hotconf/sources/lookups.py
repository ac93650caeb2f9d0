"""Lookups: what a source of pydantic-settings looks for, the files and folders that it reads and the names of a field.

A class names its files in many ways: in its configuration, by an argument of a source, by a search upwards. The source
is asked, once it is made; so is it for the names, instead of doing its work again.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic_settings import (
    DotEnvSettingsSource,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SecretsSettingsSource,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIG_FILES = {"toml_file": "toml", "json_file": "json", "yaml_file": "yaml"}
"""The settings that name files which hold keys, and the formats of the files, whatever their names say."""

_MOST_ENTRIES = 10_000  # below a folder of nested secrets, as pydantic-settings has it


# Files


@dataclass(frozen=True, slots=True)
class Document:
    """A file that a source reads. `name` is what the source calls it, `within` the keys that lead to what it takes."""

    name: str
    path: Any  # a Path or, of a packaged resource, a Traversable
    format: str
    encoding: str | None = None
    within: str | Sequence[str] = ()

    def text(self, contents: Mapping[Path, bytes]) -> bytes | None:
        """Return what it holds as UTF-8, None where it cannot be read."""
        try:
            data = contents.get(self.path)
            if data is None:  # a FIFO has been read, and would wait for another writer
                data = self.path.read_bytes() if self.path.is_file() else b""
            return data if self.encoding is None else data.decode(self.encoding).encode()
        except (OSError, UnicodeError, LookupError):
            return None


def listed(files: Any) -> list[Any]:
    """Return what a source was given as files: none, one or several."""
    if files is None:
        return []
    return list(files) if isinstance(files, Sequence) and not isinstance(files, str) else [files]


def path_of(file: Any, folder: Path) -> Any:
    """Return the absolute path of a file; a packaged resource that is no file of its own as it is."""
    return folder / Path(file).expanduser() if isinstance(file, (str, os.PathLike)) else file


def documents(source: Any, folder: Path) -> Iterator[Document]:
    """Yield the files that a source reads as a whole, the weakest first. Secrets are no such files."""
    if isinstance(source, DotEnvSettingsSource):
        for file in listed(getattr(source, "env_file", None)):
            places = _upward(file, _depth(source), folder)
            found = next((path for path in places if path.is_file() or path.is_fifo()), None)
            name = str(Path(file).expanduser()) if found == path_of(file, folder) else str(found)
            if found is not None:
                yield Document(name, found, "dotenv", getattr(source, "env_file_encoding", None))
    for key, kind in CONFIG_FILES.items():
        within = getattr(source, "toml_table_header" if kind == "toml" else "yaml_config_section", None) or ()
        for file in listed(getattr(source, f"{key}_path", None)):
            yield Document(str(file), path_of(file, folder), kind, getattr(source, f"{key}_encoding", None), within)


def _depth(source: DotEnvSettingsSource) -> int:
    return getattr(source, "env_file_depth", 0)  # 2.15 has none


def _upward(file: Any, depth: int, folder: Path) -> Iterator[Path]:
    """Yield the places where a file is looked for: its own, and as many folders further up."""
    path = Path(file).expanduser()
    yield folder / path
    if not path.is_absolute():
        yield from (parent / path for parent in islice(folder.parents, max(depth, 0)))


def watched(source: Any, folder: Path) -> Iterator[Path]:
    """Yield the files and folders whose change may change what a source says, those that are not there yet too.

    A source whose constructor failed may lack any attribute.
    """
    if isinstance(source, DotEnvSettingsSource):
        for file in listed(getattr(source, "env_file", None)):
            yield from _upward(file, _depth(source), folder)
    if isinstance(source, PyprojectTomlConfigSettingsSource):
        depth = source.config.get("pyproject_toml_depth", 0)
        places = list(_upward("pyproject.toml", depth, folder))
        yield from places if getattr(source, "toml_file_path", None) in places else ()
    for document in documents(source, folder):
        archive = getattr(getattr(document.path, "root", None), "filename", None)
        if isinstance(document.path, Path):
            yield document.path
        elif archive is not None:  # a resource within a zip archive
            yield folder / archive
    for secrets in secret_folders(source, folder):
        nested = isinstance(source, NestedSecretsSettingsSource)
        yield from islice(folders_of(secrets), _MOST_ENTRIES) if nested else (secrets,)
    yield from (folder / path for path in own_paths(source))


def own_paths(source: Any) -> list[Path]:
    """Return what a source of the user's own says that it reads."""
    paths: Any = getattr(source, "paths", None)
    return [Path(path) for path in paths()] if callable(paths) else []


def secret_folders(source: Any, folder: Path) -> list[Path]:
    """Return the folders that a source of secrets looks into, the weakest first."""
    return [path_of(file, folder) for file in listed(getattr(source, "secrets_dir", None))]


def folders_of(folder: Path, within: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield a folder and those below it, as a source of nested secrets walks them: hidden ones are passed over."""
    real = os.path.realpath(folder)
    if real in within:  # a link to a folder above
        return
    yield folder
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from folders_of(folder / entry.name, within | {real})


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in those below it, as far as a source of nested secrets would look."""
    return islice((file for place in folders_of(folder) for file in files_in(place)), _MOST_ENTRIES)


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder; none where it cannot be listed."""
    with contextlib.suppress(OSError):
        yield from (file for file in folder.iterdir() if file.is_file())


def secret_files(source: Any, folder: Path) -> Iterator[Path]:
    """Yield the files in folders of secrets that hold, or would hold, the value of a field."""
    folders = secret_folders(source, folder)
    if not folders:
        return
    nested = isinstance(source, NestedSecretsSettingsSource)
    names = {name for field, info in source.settings_cls.model_fields.items() for name in names_of(source, field, info)}
    starts = tuple(f"{name}{source.env_nested_delimiter}" for name in names) if nested else ()
    for secrets in folders:
        for file in files_below(secrets) if nested else files_in(secrets):
            name = folded(source, str(file.relative_to(secrets)))
            if name in names or name.startswith(starts):
                yield file


# Names


class _NameProbe(dict[str, Any]):
    """Variables of which none is set, and the names that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.names.append(name)
        return default


def names_of(source: Any, field: str, info: Any) -> list[str]:
    """Return the names under which a source looks for a field, in its order; none where it does not tell."""
    probe, asked = copy.copy(source), _NameProbe()
    if isinstance(source, SecretsSettingsSource):
        probe.secrets_paths = [Path()]
        probe.find_case_path = lambda _folder, name, _case_sensitive: asked.get(name)
    else:
        probe.env_vars = asked
    try:
        probe.get_field_value(info, field)
    except Exception:  # noqa: BLE001 - a source that derives from one of pydantic-settings' may do anything here
        return []
    return [folded(source, name) for name in asked.names]


def folded(source: Any, name: str) -> str:
    """Return a name as a source compares it."""
    return name if source.case_sensitive else name.lower()


def reads_environment(source: Any) -> TypeGuard[EnvSettingsSource]:
    """Whether a source reads the environment. Those that ask a cloud derive from the one that does, and load else."""
    loaders = (cls for cls in type(source).__mro__ if "_load_env_vars" in vars(cls))
    return next(loaders, None) is EnvSettingsSource
