"""Which failures of an AWS call are worth the same call again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from baton.errors import TransientAwsError

# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html names these as throttling and transient,
# and https://docs.aws.amazon.com/sns/latest/api/API_Publish.html SNS's own words: KMSThrottling and Throttled.
TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "KMSThrottling",
        "LimitExceededException",
        "OperationAborted",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttled",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


def is_transient(error: Exception) -> bool:
    """Whether AWS throttled the call, failed on its own side, or could not be reached."""
    if not isinstance(error, ClientError):
        return isinstance(error, (ConnectionError, HTTPClientError))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in TRANSIENT_CODES or status >= 500


@contextmanager
def retryable_aws_errors() -> Iterator[None]:
    """Turn an AWS failure that passes into TransientAwsError, the one name that the state machines retry."""
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise TransientAwsError(str(error)) from error
        raise
