"""The objects that a run leaves in the run bucket, and their removal with every version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from baton.errors import CleanUpIncomplete, TransientAwsError
from baton.names import KEPT_FOLDERS, Layout
from baton.transient import TRANSIENT_CODES


@dataclass(frozen=True)
class Swept:
    """What a sweep removed: objects (keys that were current), versions and markers, unfinished uploads."""

    deleted: int = 0
    versions: int = 0
    uploads_aborted: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(
            self.deleted + other.deleted,
            self.versions + other.versions,
            self.uploads_aborted + other.uploads_aborted,
        )


class RunObjects:
    """Everything under a run's prefix; the current objects of the folders in ``names.KEPT_FOLDERS`` stay."""

    def __init__(self, s3: Any, layout: Layout) -> None:
        self._s3 = s3
        self._layout = layout
        self._kept_prefixes = tuple(layout.key(folder) for folder in KEPT_FOLDERS)

    def sweep(self) -> Swept:
        """Delete every version and marker but the current objects of the kept folders; abort every unfinished upload.

        A denied deletion is CleanUpIncomplete, a throttled one TransientAwsError; either comes only after everything
        else was tried.
        """
        swept, refused = Swept(uploads_aborted=self._abort_uploads()), []
        # Listed to its end before anything is deleted, so that no page's marker names a version that is gone.
        for page in list(self._version_pages()):
            versions = [v for v in page if not self._is_kept(v)]
            if versions:
                errors = self._delete(versions)
                refused += errors
                gone = {(v["Key"], v["VersionId"]) for v in versions} - {(e["Key"], e["VersionId"]) for e in errors}
                swept += Swept(sum(v["is_current"] and (v["Key"], v["VersionId"]) in gone for v in versions), len(gone))
        if refused:
            raise _refusal(refused)
        return swept

    def left(self) -> list[str]:
        """Return what a sweep would still have to remove, at most a page of it."""
        uploads = [f"upload of {upload['Key']}" for upload in self._uploads()]
        for page in self._version_pages():
            keys = [version["Key"] for version in page if not self._is_kept(version)]
            if keys:
                return uploads + keys
        return uploads

    def kept(self) -> list[str]:
        """Return the URIs of the kept folders that hold something."""
        return [self._layout.uri(folder) for folder in KEPT_FOLDERS if self._holds_something(folder)]

    def _holds_something(self, folder: str) -> bool:
        page = self._s3.list_objects_v2(Bucket=self._layout.bucket, Prefix=self._layout.key(folder), MaxKeys=1)
        return bool(page.get("Contents"))

    def _is_kept(self, version: dict[str, Any]) -> bool:
        # A step that was repeated has written its object twice: only the current version is what the run was for.
        key: str = version["Key"]
        return version["is_current"] and key.startswith(self._kept_prefixes)

    def _version_pages(self) -> Iterator[list[dict[str, Any]]]:
        pages = self._s3.get_paginator("list_object_versions").paginate(**self._place())
        for page in pages:
            objects = [_version(v, is_current=v["IsLatest"]) for v in page.get("Versions", [])]
            yield objects + [_version(marker, is_current=False) for marker in page.get("DeleteMarkers", [])]

    def _uploads(self) -> Iterator[dict[str, Any]]:
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(**self._place()):
            yield from page.get("Uploads", [])

    def _abort_uploads(self) -> int:
        aborted = 0
        for upload in self._uploads():
            aborted += self._abort(upload)
        return aborted

    def _abort(self, upload: dict[str, Any]) -> bool:
        try:
            self._s3.abort_multipart_upload(Bucket=self._layout.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        except self._s3.exceptions.NoSuchUpload:
            return False
        return True

    def _delete(self, versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        objects = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
        answer = self._s3.delete_objects(Bucket=self._layout.bucket, Delete={"Objects": objects, "Quiet": True})
        # The call answers 200 even where single objects could not be deleted:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
        errors = [error for error in answer.get("Errors", []) if error["Code"] not in ("NoSuchKey", "NoSuchVersion")]
        return [{"VersionId": "null", **error} for error in errors]

    def _place(self) -> dict[str, str]:
        return {"Bucket": self._layout.bucket, "Prefix": self._layout.prefix}


def _version(listed: dict[str, Any], is_current: bool) -> dict[str, Any]:
    return {"Key": listed["Key"], "VersionId": listed["VersionId"], "is_current": is_current}


def _refusal(errors: list[dict[str, Any]]) -> CleanUpIncomplete | TransientAwsError:
    first, transient = errors[0], any(error["Code"] in TRANSIENT_CODES for error in errors)
    message = f"S3 did not delete {len(errors)} object version(s), first {first['Key']}: {first['Code']}"
    return (TransientAwsError if transient else CleanUpIncomplete)(f"{message} {first.get('Message', '')}".strip())
