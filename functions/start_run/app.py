"""An uploaded data set, or a run.json, starts exactly one execution."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.catalogue import Catalogue
from baton.clients import client
from baton.errors import UploadRefused
from baton.observability import count, lambda_entry, logger
from baton.settings import settings
from baton.uploads import NotAnUpload, Upload, Uploads


@cache
def uploads() -> Uploads:
    """Return the sandbox's starter."""
    return Uploads(Catalogue.packaged(), client("s3"), client("stepfunctions"), client("sns"), settings())


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, str]:
    """Return ``{"started": execution ARN}`` or ``{"refused": reason}`` for S3's "Object Created" event."""
    upload = None
    try:
        upload = Upload.read(event)
        arn = uploads().start(upload)
    except NotAnUpload as nothing:
        logger.info(str(nothing))
        return {"refused": str(nothing)}
    except UploadRefused as refusal:
        logger.warning("The upload is refused.", extra={"upload": upload and upload.uri, "reason": str(refusal)})
        count("UploadRefused")
        uploads().tell_of_refusal(upload, str(refusal))
        return {"refused": str(refusal)}
    logger.info("The upload's run is started.", extra={"upload": upload.uri, "execution": arn})
    count("RunStarted")
    return {"started": arn}
