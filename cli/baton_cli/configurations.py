"""The configurations of samconfig.toml: which of them deploys a stack, so that a command can name it.

``sam deploy`` without ``--config-env`` takes the parameters of ``default``, whatever stack it is told.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton_cli.account import Account


@dataclass(frozen=True)
class Configuration:
    """One configuration; ``region`` is empty where it leaves the region to whoever deploys."""

    name: str
    stack_name: str
    region: str
    capabilities: str

    @classmethod
    def read(cls, name: str, tables: Mapping[str, Any]) -> Configuration:
        """Read a configuration's tables; what they say of ``deploy`` comes before what they say of all commands."""
        said = {**_parameters(tables, "global"), **_parameters(tables, "deploy")}
        return cls(name, *(str(said.get(key, "")) for key in ("stack_name", "region", "capabilities")))


@dataclass(frozen=True)
class Configurations:
    """All configurations of a checkout."""

    found: tuple[Configuration, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Configurations:
        """Read samconfig.toml; one that cannot be read has none."""
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return cls()
        return cls(tuple(Configuration.read(n, found) for n, found in tables.items() if isinstance(found, dict)))

    def of(self, stack_name: str, region: str) -> Configuration | None:
        """Return what deploys this stack in this region; one that names the region comes before one that names none."""
        named = [each for each in self.found if each.stack_name == stack_name and each.region in (region, "")]
        return max(named, key=lambda each: each.region == region, default=None)

    def options(self, account: Account) -> str:
        """Return the options by which ``sam deploy`` is about a stack, and takes no other stack's parameters.

        A stack that no configuration has gets one of its name: where it has none, SAM starts with an empty one.
        """
        named = f"--config-env {shlex.quote(self.name_of(account))} {account.this_stack}"
        return named if self.of(account.stack_name, account.region) else f"{named} {self._common}"

    def name_of(self, account: Account) -> str:
        """Return the name of the configuration that a stack has, or is to get."""
        configuration = self.of(account.stack_name, account.region)
        if configuration is not None:
            return configuration.name
        taken = account.stack_name in {each.name for each in self.found}
        return f"{account.stack_name}-{account.region}" if taken else account.stack_name

    @property
    def _common(self) -> str:
        """What an empty configuration lacks of that which every stack of this template needs."""
        capabilities = next((each.capabilities for each in self.found if each.capabilities), "")
        return f"--resolve-s3 --capabilities {capabilities}" if capabilities else "--resolve-s3"


def _parameters(tables: Mapping[str, Any], command: str) -> Mapping[str, Any]:
    found = tables.get(command)
    said = found.get("parameters") if isinstance(found, dict) else None
    return said if isinstance(said, dict) else {}
