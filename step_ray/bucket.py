"""Datasets in an object store: ``s3://bucket/folder``, through Arrow's own S3 client.

An object appears as a whole or not at all, and that is all that publishing needs: shards first,
manifest last. Endpoint, region and credentials come from the environment alone (the variables of
AWS's own tools: ``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ...) or from what the machine was given, and are never written down.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as fs

SCHEME = "s3://"
CONNECT_TIMEOUT, REQUEST_TIMEOUT, ATTEMPTS = 10.0, 120.0, 4  # seconds, seconds, tries
_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<key>(/[^/\s]+)*)/?")


class BucketError(RuntimeError):
    """An object store cannot be used; names the place and says what to do."""


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """A place in an object store. Offers what reading a dataset needs, as a path does."""

    store: Any  # pyarrow.fs.S3FileSystem
    path: str  # bucket/key

    def __str__(self) -> str:
        return f"{SCHEME}{self.path}"

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.store, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]

    def size(self) -> int | None:
        """Bytes of the object; None if there is none. Raises BucketError."""
        try:
            found = self.store.get_file_info(self.path)
        except OSError as error:
            raise _explained(self, "look at", error) from error
        return int(found.size) if found.type == fs.FileType.File else None

    def read_bytes(self) -> bytes:
        """The whole object. Raises FileNotFoundError if there is none, BucketError."""
        try:
            with self.store.open_input_file(self.path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _explained(self, "read", error) from error

    def write_bytes(self, content: bytes) -> None:
        """Makes it the content, as a whole. Raises BucketError."""
        try:
            # One write: nothing can come between its beginning and its end but a kill, and a kill
            # leaves no object.
            with self.store.open_output_stream(self.path) as file:
                file.write(content)
        except OSError as error:
            raise _explained(self, "write", error) from error

    def unlink(self) -> None:
        """Removes the object; raises BucketError."""
        try:
            self.store.delete_file(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _explained(self, "remove", error) from error

    def children(self) -> Iterator[str]:
        """Names directly below; raises BucketError."""
        try:
            found = self.store.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        except OSError as error:
            raise _explained(self, "list", error) from error
        yield from (info.base_name for info in found)


Place = Path | ObjectPath


def is_object(path: str | Place) -> bool:
    """Whether a path, as a person gives it, is in an object store."""
    return isinstance(path, ObjectPath) or str(path).startswith(SCHEME)


def check_uri(uri: str) -> None:
    """Raises BucketError for what is no ``s3://bucket/folder``."""
    if "?" in uri or "@" in uri:
        raise BucketError(
            "an s3:// address with options or credentials in it is refused, as addresses are "
            "written down: set AWS_ENDPOINT_URL, AWS_REGION and AWS_ACCESS_KEY_ID in the "
            "environment instead"
        )
    if not _URI.fullmatch(uri):
        raise BucketError(f"{uri}: not an address like s3://bucket/folder; correct it")


def place(path: str | Place) -> Place:
    """A local path, or a place in an object store; raises BucketError for a malformed address."""
    if isinstance(path, ObjectPath | Path) or not is_object(path):
        return path if isinstance(path, ObjectPath) else Path(path)
    check_uri(path)
    return ObjectPath(_store(), path.removeprefix(SCHEME).rstrip("/"))


def _store() -> Any:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    where = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        return fs.S3FileSystem(
            endpoint_override=where.netloc or None,
            scheme=where.scheme,
            region=region or ("us-east-1" if where.netloc else None),
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=REQUEST_TIMEOUT,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )
    except OSError as error:
        raise BucketError(f"no object store can be used: {error}; set AWS_REGION") from error


def _explained(path: ObjectPath, what: str, error: OSError) -> BucketError:
    text = " ".join(str(error).split())
    remedies = {
        "NO_SUCH_BUCKET": "create the bucket, or correct its name",
        "not found": "create the bucket, or correct its name",
        "ACCESS_DENIED": "check the credentials in the environment (AWS_ACCESS_KEY_ID, ...)",
        "INVALID_ACCESS_KEY": "check the credentials in the environment (AWS_ACCESS_KEY_ID, ...)",
        "NETWORK_CONNECTION": "check AWS_ENDPOINT_URL and the network; the same command goes on",
    }
    remedy = next((say for sign, say in remedies.items() if sign in text), "run it again")
    return BucketError(f"{path}: cannot {what} it: {text}; {remedy}")
