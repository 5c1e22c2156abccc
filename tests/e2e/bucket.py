"""A bucket, looked at without the gateway."""

import hashlib
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import boto3
from botocore.config import Config
from tests.kit.server import configure

from tidegate.seaweedfs import SeaweedFS

MIB = 2**20


class Bucket:
    """One bucket of an S3 server, by boto3. Made at once unless ``name`` is given; ``close`` it."""

    def __init__(self, storage: SeaweedFS, name: str | None = None) -> None:
        self.storage = storage
        self.name = name or f"b-{uuid4().hex}"
        self.client = boto3.client(
            "s3",
            endpoint_url=storage.endpoint,
            region_name="us-east-1",
            aws_access_key_id=storage.access_key,
            aws_secret_access_key=storage.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 3},
            ),
        )
        if name is None:
            self.client.create_bucket(Bucket=self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.client.close()

    def objects(self) -> dict[str, int]:
        """Keys and sizes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def unfinished(self) -> list[tuple[str, str]]:
        """Keys and upload ids of open multipart uploads."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        return [
            (entry["Key"], entry["UploadId"]) for page in pages for entry in page.get("Uploads", ())
        ]

    def of(self, image_id: str) -> list[str]:
        """Keys of all that lies, or is on its way, under an image's prefix."""
        found = [*self.objects(), *(f"unfinished {key}" for key, _ in self.unfinished())]
        return [key for key in found if image_id in key]

    def get(self, key: str) -> bytes:
        body = self.client.get_object(Bucket=self.name, Key=key)["Body"]
        with body:
            data: bytes = body.read()
        return data

    def sha256(self, key: str) -> str:
        return self.digest(key, "sha256")

    def digest(self, key: str, algorithm: str) -> str:
        digest = hashlib.new(algorithm)
        with self.client.get_object(Bucket=self.name, Key=key)["Body"] as body:
            while chunk := body.read(MIB):
                digest.update(chunk)
        return digest.hexdigest()

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def begin(self, key: str) -> str:
        """Open a multipart upload; its id."""
        upload_id: str = self.client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]
        return upload_id

    def abort(self, key: str, upload_id: str) -> None:
        self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)

    def configure(self, folder: Path, *, second: bool = False, **sections: dict[str, Any]) -> Path:
        """A configuration of a gateway on this bucket whose deadlines are short; ``store`` holds
        more settings of its store. ``second``: of two stores, the other one under a prefix."""
        store = {
            "id": "main", "type": "s3", "endpoint": self.storage.endpoint, "bucket": self.name,
            "access_key": self.storage.access_key, "secret_key": self.storage.secret_key,
            "timeout": "20s", "connect_timeout": "2s", "attempts": 3, **sections.pop("store", {}),
        }  # fmt: skip
        uploads = {
            "lease": "2s", "idle_timeout": "20s", "part_size": "5MiB", "part_concurrency": 2,
            "memory_budget": "64MiB", **sections.pop("uploads", {}),
        }  # fmt: skip
        defaults: dict[str, dict[str, Any]] = {
            "locations": {"show": True},
            "fetch": {"allow": ["127.0.0.1"]},
        }
        stores = [store, {**store, "id": "other", "prefix": "other/"}] if second else [store]
        return configure(folder, stores, uploads=uploads, **{**defaults, **sections})
