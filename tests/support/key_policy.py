"""The statements of a KMS key's policy that docs/security.md asks for, as it has them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from baton_local.regions import url_suffix

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def statements(account: str, region: str = "eu-west-1") -> list[dict[str, Any]]:
    """Return the page's statements for the services, for an account and a region."""
    section = PAGE.read_text("utf-8").partition("## A KMS key of yours\n")[2].partition("\n## ")[0]
    indented = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    values = {"ACCOUNT": account, "REGION": region, "SUFFIX": url_suffix(region)}
    return list(json.loads(f"[{re.sub('|'.join(values), lambda found: values[found[0]], indented)}]"))
