"""InvokeEndpoint: requests to the container of an endpoint."""

from __future__ import annotations

from typing import Any

from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from baton_local.regions import url_suffix
from baton_local.sagemaker import engine
from baton_local.sagemaker.endpoints import Endpoint
from baton_local.sagemaker.errors import Refusal
from baton_local.sagemaker.formats import FormatError, UnsupportedTypeError
from baton_local.sagemaker.worker import predict
from baton_local.seams import register

MAX_BODY = 6 * 1024 * 1024
"""AWS: "Amazon SageMaker endpoints and quotas", the payload of a real-time invocation."""

_CONSOLE = "https://{region}.console.{console}/cloudwatch/home?region={region}#logEventViewer:group={group}"


class RuntimeResponses(SageMakerRuntimeResponse):
    """moto's answers, with real predictions in place of canned ones."""

    use_raw_body = True

    def invoke_endpoint(self) -> Any:
        """InvokeEndpoint."""
        name = self.path.split("/")[2]
        engine.current().faults.admit("InvokeEndpoint")
        backend = register("moto.sagemaker.models", "sagemaker_backends")[self.current_account][self.region]
        endpoint: Endpoint | None = backend.endpoints.get(name)
        centres = endpoint.centres if endpoint else None
        if endpoint is None or centres is None:
            raise Refusal("ValidationError", f"Endpoint {name} of account {self.current_account} not found.")
        if len(self.raw_body) > MAX_BODY:
            raise Refusal("ValidationError", f"The request's body is greater than {MAX_BODY} bytes.")
        accept = self.headers.get("Accept") or "*/*"
        try:
            kind, body = predict(bytes(self.raw_body), self.headers.get("Content-Type") or "", accept, centres)
        except UnsupportedTypeError as error:
            raise _model_error(endpoint, 415, str(error)) from error
        except FormatError as error:
            raise _model_error(endpoint, 400, "unable to evaluate payload provided") from error
        variant = endpoint.description["ProductionVariants"][0]["VariantName"]
        return 200, {"Content-Type": kind, "x-Amzn-Invoked-Production-Variant": variant}, body


def _model_error(endpoint: Endpoint, status: int, message: str) -> Refusal:
    group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
    console = "amazonaws.cn" if url_suffix(endpoint.region).endswith(".cn") else "aws.amazon.com"
    where = _CONSOLE.format(region=endpoint.region, console=console, group=group)
    error = Refusal(
        "ModelError",
        f'Received client error ({status}) from primary with message "{message}". See {where} in account '
        f"{endpoint.account_id} for more information.",
    )
    partition = endpoint.arn.split(":")[1]
    stream = f"arn:{partition}:logs:{endpoint.region}:{endpoint.account_id}:log-group:{group}"
    error.__dict__.update(OriginalStatusCode=status, OriginalMessage=message, LogStreamArn=stream)
    return error
