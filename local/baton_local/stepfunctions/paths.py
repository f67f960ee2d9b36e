"""JSONPath, as Step Functions reads it: a definite path gives its value, an indefinite one a list of what it finds."""

from __future__ import annotations

import functools
import re
from typing import Any

from jsonpath_ng.ext.parser import parse
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

from baton_local.seams import replace

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_INDEFINITE = re.compile(r"\.\.|\*|\[\?|\[[^\]]*[:,][^\]]*\]")
_ENDS_WITH_INDEX = re.compile(r"\[\d+\]$")


def install() -> None:
    """Open the seams; parsed paths are kept, for parsing one takes milliseconds."""
    module = "moto.stepfunctions.parser.asl.utils.json_path"
    replace(module, "extract_json", extract_json, ("path", "data"), imported_in="moto.stepfunctions")
    plain = "moto.stepfunctions.parser.asl.component.common.path.result_path"
    replace(plain, "parse", _parsed, ("string",))


@functools.lru_cache(maxsize=1024)
def _parsed(path: str) -> Any:
    return parse(path)


def extract_json(path: str, data: Any) -> Any:
    """Return what a path finds; raise moto's NoSuchJsonPathError if a definite one finds nothing."""
    values = [match.value for match in _parsed(path).find(data)]
    if not _INDEFINITE.search(_QUOTED.sub("''", path)):
        if not values:
            raise NoSuchJsonPathError(json_path=path, data=data)
        return values[0]
    # Step Functions unpacks a single element that the path asks for by its index.
    return values[0] if len(values) == 1 and _ENDS_WITH_INDEX.search(path) else values
