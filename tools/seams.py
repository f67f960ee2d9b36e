"""Lists every place of moto that the embedded cloud opens: ``python -m tools.seams docs/embedded-cloud-seams.md``."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from baton_local import accounts, http_server, seams
from baton_local.context import ACCOUNT_ID, CloudContext
from baton_local.dials import Dials
from baton_local.server import SERVICES, free_port

_HEAD = f"""# The seams of moto

These are the places of [moto](https://docs.getmoto.org) {seams.MOTO_VERSION} that the
[embedded cloud](embedded-cloud.md) opens when it starts: *replaced* by a function of its own (which may call moto's),
*used* although they are private to moto, or *added* because moto does not have them. Each is checked to look as it is
expected to, and a cloud that finds one different does not start. `python -m tools.seams docs/embedded-cloud-seams.md`
writes this page anew; a test compares it with what is opened.
"""


def opened() -> list[tuple[str, str, str]]:
    """Install every service in this process; return module, attribute and what is done with it, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        port = free_port()
        context = CloudContext(
            f"http://localhost:{port}", port, ACCOUNT_ID, Dials(), 1.0, free_port(), work, work / "cache"
        )
        os.environ.update(accounts.ADMINISTRATOR.environment(), MOTO_PORT=str(port))
        http_server.moto_application()
        modules = [importlib.import_module(f"baton_local.{name}") for name in SERVICES]
        for module in modules:
            module.install(context)
        found = [(seam.module, seam.attribute, _fate(seam)) for seam in seams.opened()]
        found += [(seam.module, seam.attribute, "added") for seam in seams.added()]
        for module in reversed(modules):
            getattr(module, "shutdown", lambda: None)()
    return sorted(found)


def _fate(seam: seams.Seam) -> str:
    name = seam.attribute.rpartition(".")[2]
    current: Any = getattr(seam.holder(), name)
    pristine = seams.pristine(seam)
    return "used" if current is pristine or current == pristine else "replaced"


def page(found: list[tuple[str, str, str]]) -> str:
    """Return the page that lists the seams."""
    lines = [_HEAD]
    for module, group in groupby(found, key=lambda seam: seam[0]):
        lines += [f"**`{module}`**", ""]
        lines += [f"- `{attribute}`: {fate}" for _, attribute, fate in group]
        lines += [""]
    return "\n".join(lines)


def main() -> int:
    """Write the page that the first argument names; installing has started threads that need not be waited for."""
    Path(sys.argv[1]).write_text(page(opened()))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
