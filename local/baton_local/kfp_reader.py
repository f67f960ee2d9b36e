"""Reads what the embedded Kubeflow Pipelines says of its runs, as a person would with curl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen


class KfpReader:
    """A read-only client of one Kubeflow Pipelines server."""

    def __init__(self, url: str) -> None:
        self._base = f"{url}/apis/v2beta1"

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield every run as the API shows it; raise OSError where the server does not answer."""
        token = ""
        while True:
            page = self._get("/runs", {"page_size": "200", "page_token": token})
            yield from page.get("runs", [])
            token = page.get("next_page_token", "")
            if not token:
                return

    def run_called(self, display_name: str) -> dict[str, Any] | None:
        """Return the run of this display name that got furthest: the one that did work, if several were posted.

        Raises OSError where the server does not answer.
        """
        found = [run for run in self.runs() if run.get("display_name") == display_name]
        return next((run for run in found if run.get("state") == "SUCCEEDED"), found[0] if found else None)

    def experiment(self, identity: str) -> dict[str, Any]:
        """Return an experiment by its id; raise OSError where the server does not answer or has none."""
        return self._get(f"/experiments/{identity}", {})

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        with urlopen(f"{self._base}{path}?{urlencode(query)}", timeout=10) as answer:  # noqa: S310 (http only)
            page: dict[str, Any] = json.load(answer)
            return page
