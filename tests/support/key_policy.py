"""The statements of a KMS key's policy that docs/security.md asks for, as it has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def statements(account: str) -> list[dict[str, Any]]:
    """Return the page's statements for the services, for an account."""
    section = PAGE.read_text("utf-8").partition("## A KMS key of yours\n")[2].partition("\n## ")[0]
    indented = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    return list(json.loads(f"[{indented.replace('ACCOUNT', account)}]"))
