"""The YAML files of an environment: what Kedro makes of them, and where a parameter stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dwp_kedro.parameters.check import ParameterError, ParameterProblem, did_you_mean, has
from dwp_kedro.parameters.check import Path as Keys
from dwp_kedro.parameters.environment import EnvironmentParameters

_SUFFIXES = (".yml", ".yaml", ".json")
_OTHERS = ("catalog", "credentials", "logging")


class EnvironmentFiles:
    """The files of the environment that runs, before those of ``base``, and what ``--params`` says over them."""

    def __init__(self, loader: AbstractConfigLoader, settings: Mapping[str, Any], project: Path) -> None:
        """Look at the loader's environment.

        Args:
            loader: Kedro's, of the session that runs.
            settings: the arguments that the project makes loaders with.
            project: the project's folder, in which relative paths begin.

        Raises:
            ParameterError: there is no such environment, or a file of it is not read, or is no YAML.
        """
        self._loader = loader
        self._settings = settings
        self._project = project
        self._conf = Path(str(loader.conf_source))
        environments = list(dict.fromkeys([loader.env or settings["default_run_env"], settings["base_env"]]))
        self._folders = [self._conf / name for name in environments]
        if not self._folders[0].is_dir():
            known = sorted(path.parent.name for path in self._conf.glob("*/globals.yml"))
            raise ParameterError(
                f"There is no environment {self._shown(self._folders[0])}: {did_you_mean(environments[0], known)}"
            )
        found = [path for folder in self._folders for path in _yaml_files(folder)]
        files = [path for path in found if path.name == "globals.yml" or path.name.startswith("parameters")]
        self._referring = [*files, *(path for path in found if path.name.startswith("catalog"))]
        unread = [path for path in found if path not in files and not path.name.startswith(_OTHERS)]
        if unread:
            raise ParameterError(
                f"{self._shown(unread[0])} is not read: the names of parameter files begin with 'parameters', and "
                "the file of values that they share is globals.yml. Rename it, or take it away."
            )
        self._files = {path: self._read(path) for path in files}

    def parameters(self) -> dict[str, Any]:
        """Return the parameters: the files' blocks, and over them, value by value, those of ``--params``.

        A block of the environment replaces the base's whole. Kedro would let one of ``--params`` do the same where
        the environment has no such block, and so lose the rest of the base's. Relative paths of cohorts begin in
        ``data_root``.

        Raises:
            ParameterError: two files name the same block, or one refers to a value that is not there.
        """
        given = self._loader.runtime_params
        single = {name: value for name, value in given.items() if not isinstance(value, Mapping)}
        try:
            loader = type(self._loader)(
                self._loader.conf_source, env=self._loader.env, runtime_params=single, **self._settings
            )
            merged: Any = OmegaConf.to_container(OmegaConf.merge(loader["parameters"], given))
            data_root = given.get("data_root", loader["globals"]["data_root"])
        except (YAMLError, OmegaConfBaseException, MissingConfigException, ValueError) as error:
            raise ParameterError(f"The configuration cannot be read: {error}") from error
        if not isinstance(data_root, str):
            raise ParameterError(f"data_root is {data_root!r}; it should be the folder of your scans.")
        root = self._project / Path(data_root).expanduser()
        for reader in _readers(merged):
            paths = {key: Path(reader[key]).expanduser() for key in ("folder", "file") if key in reader}
            reader.update({key: str(root / path) for key, path in paths.items()})
        return merged

    def find_misplaced(self) -> list[ParameterProblem]:
        """Return names that stand where they have no effect.

        Names in globals.yml that no file refers to, names in parameter files that belong into globals.yml or
        ``--params``, and names in ``--params`` that belong into globals.yml.
        """
        shared, given = self._referred_to("globals"), self._referred_to("runtime_params")
        move = "has no effect here; write it into globals.yml"
        problems = [
            ParameterProblem((name,), move, "--params")
            for name in self._loader.runtime_params
            if name in shared and name not in given
        ]
        for file, content in self._files.items():
            for name in map(str, content):
                if file.name == "globals.yml":
                    is_right = name in shared
                    text = f"no file refers to this value of globals.yml; {did_you_mean(name, shared)}"
                elif name in shared:
                    is_right, text = OmegaConf.is_interpolation(content, name), move
                else:
                    is_right = name not in self.no_parameters()
                    text = f"has no effect here; give it as --params {name}=..."
                if not is_right:
                    problems.append(ParameterProblem((name,), text, self._shown(file)))
        return problems

    def no_parameters(self) -> list[str]:
        """Names that are no parameters, but that globals.yml or ``--params`` may give: files refer to them."""
        names = {*self._referred_to("globals"), *self._referred_to("runtime_params")}
        return sorted(names - set(EnvironmentParameters.model_fields))

    def place(self, keys: Keys) -> str:
        """Return the file in which a parameter stands, or the block that lacks it; ``--params`` if it is there."""
        given: list[tuple[str, Any]] = [("--params", self._loader.runtime_params)]
        written: list[tuple[str, Any]] = []
        for folder in self._folders:
            files = {path: content for path, content in self._files.items() if path.is_relative_to(folder)}
            written += [(self._shown(path), OmegaConf.to_container(content)) for path, content in files.items()]
            if any(has(content, keys[0]) for _, content in written):
                break  # A block of the environment replaces the base's whole.
        for end in range(len(keys), 0, -1):
            for name, content in [*given, *written] if end == len(keys) else [*written, *given]:
                if _leads_to(content, keys[:end]):
                    return name
        return ""

    def _read(self, path: Path) -> DictConfig:
        """Return what a file says, with its references unresolved; Kedro's own errors do not always name it."""
        try:
            content = OmegaConf.load(path)
        except (YAMLError, UnicodeDecodeError, OSError) as error:
            raise ParameterError(f"{self._shown(path)} cannot be read as YAML in UTF-8: {error}") from error
        if not isinstance(content, DictConfig):
            raise ParameterError(f"{self._shown(path)} should hold names with values, and not a list of values.")
        return content

    def _referred_to(self, resolver: str) -> list[str]:
        texts = "\n".join(path.read_text(encoding="utf-8") for path in self._referring)
        return sorted(set(re.findall(rf"\$\{{{resolver}:\s*(\w+)", texts)))

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._conf.parent).as_posix()


def _yaml_files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES)


def _readers(parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the readers of cohorts, as far as what is written there are some."""
    cohorts = parameters.get("data_processing")
    for cohort in cohorts.values() if isinstance(cohorts, Mapping) else ():
        reader = cohort.get("reader") if isinstance(cohort, Mapping) else None
        if isinstance(reader, dict) and all(isinstance(reader.get(key, ""), str) for key in ("folder", "file")):
            yield reader


def _leads_to(content: Any, keys: Keys) -> bool:
    for key in keys:
        if not has(content, key):
            return False
        content = content[key]
    return True
