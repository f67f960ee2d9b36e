"""Addresses in the AWS console, in every partition that has one."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from baton.names import split_s3_uri

_HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
_PAGES = {
    "tuning": "hyper-tuning-jobs",
    "training": "jobs",
    "transform": "transform-jobs",
    "model": "models",
    "endpoint": "endpoints",
    "endpoint_config": "endpointConfig",
}


class Console:
    """The console of one region; every method returns None in a partition whose console is not public."""

    def __init__(self, partition: str, region: str) -> None:
        self._region = region
        self._host = _HOSTS.get(partition)

    def execution(self, arn: str) -> str | None:
        """Return the address of an execution of a state machine."""
        return self._page(f"states/home?region={self._region}#/v2/executions/details/{quote(arn, safe=':')}")

    def sagemaker(self, kind: str, name: str) -> str | None:
        """Return the address of a SageMaker job, model, endpoint or endpoint configuration."""
        return self._page(f"sagemaker/home?region={self._region}#/{_PAGES[kind]}/{quote(name)}")

    def s3(self, uri: str) -> str | None:
        """Return the address of an S3 object, or of a folder where the URI ends in a slash."""
        bucket, key = split_s3_uri(uri)
        what = "buckets" if key.endswith("/") else "object"
        return self._page(f"s3/{what}/{bucket}?region={self._region}&prefix={quote(key)}")

    def _page(self, path: str) -> str | None:
        return f"https://{self._region}.{self._host}/{path}" if self._host else None


def web_address(text: str | None) -> str | None:
    """Return an address that is safe to link to (http or https), or None."""
    return text if text and urlsplit(text).scheme in ("http", "https") else None
