"""Which image URIs exist: the k-means image of each region, in the account that AWS keeps it in.

``kmeans_registry.json`` is the table of the SageMaker Python SDK (``image_uri_config/kmeans.json``). For a region that
it does not have nobody here knows the account, so every account's is there.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from typing import Any

from baton_local.regions import url_suffix
from baton_local.sagemaker.kmeans import ClientError

_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.(?P<suffix>[a-z0-9.-]+)/(?P<repository>[^:]+):(?P<tag>.+)"
)


@functools.cache
def registry() -> dict[str, Any]:
    """Return the table: ``repository``, ``tags`` and ``registries`` (region to account)."""
    table: dict[str, Any] = json.loads(resources.files(__package__).joinpath("kmeans_registry.json").read_text())
    return table


def check_image(uri: str, region: str) -> None:
    """Raise ClientError, worded like a failed pull, unless the URI is a k-means image of the region."""
    image = _IMAGE.fullmatch(uri)
    table = registry()
    if image:
        account = table["registries"].get(region, image["account"])
        wanted = (account, region, url_suffix(region), table["repository"])
        found = (image["account"], image["region"], image["suffix"], image["repository"])
        if found == wanted and image["tag"] in table["tags"]:
            return
    raise ClientError(
        f"Failed to pull image {uri}: the repository or tag does not exist in {region}, "
        "or the registry does not let SageMaker pull it. Please ensure that the image is one of this region."
    )
