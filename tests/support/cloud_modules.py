"""Importing this imports what an embedded cloud's process does: see ``forked_clouds``."""

from __future__ import annotations

import gc
import importlib

from baton_local.server import SERVICES

for _module in ("http_server", *SERVICES, "stepfunctions.api", "cloudformation.installing"):
    importlib.import_module(f"baton_local.{_module}")

# So that no collection touches, and thereby copies, the memory that the forks share.
gc.freeze()
