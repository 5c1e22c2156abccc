"""Whether a gateway that came to rest holds what it promises: every image in a final status, every
acknowledged byte there, nothing in the bucket that no image owns."""

import hashlib
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
from tests.e2e.bucket import Bucket
from tests.e2e.crowd import Crowd, Record, Said

_LOOK = 5.0
"""Seconds, at most, between two looks of a janitor."""

FINAL = frozenset({"active", "killed", "queued", "deleted"})


class Audit:
    """Compares what clients were told with catalog and bucket; ``foreign`` is the key of an
    object, and of an open multipart upload, that are not the gateway's."""

    def __init__(
        self, url: str, crowd: Crowd, bucket: Bucket, catalog: Path, *, foreign: str
    ) -> None:
        self._url = url
        self._crowd = crowd
        self._bucket = bucket
        self._catalog = catalog
        self._foreign = foreign
        self._read: set[str] = set()

    async def look(self, session: aiohttp.ClientSession) -> list[str]:
        """What is not as it must be once all is quiet, but for the bytes themselves."""
        images = await self._images(session)
        wrong = []
        for record in self._crowd.records.values():
            wrong += self._judge(record, images.get(record.id))
        return wrong + self._judge_bucket(images) + self._judge_rows()

    async def look_at_bytes(self, session: aiohttp.ClientSession, *, all_again: bool) -> list[str]:
        """Every active image's bytes, through the gateway and from the bucket."""
        images = await self._images(session)
        wrong = []
        for record in self._crowd.records.values():
            image = images.get(record.id)
            if image is None or image["status"] != "active":
                continue
            if record.id in self._read and not all_again:
                continue
            self._read.add(record.id)
            expected = self._crowd.expected(record)
            url = f"{self._url}/v2/images/{record.id}/file"
            async with session.get(url) as answer:
                body = await answer.read()
            if answer.status != 200 or hashlib.sha256(body).hexdigest() != expected:
                wrong.append(f"{_name(record)}: the gateway gives {answer.status} and other bytes")
            key = "" if record.by_location else _key(image)
            if key in self._bucket.objects() and self._bucket.sha256(key) != expected:
                wrong.append(f"{_name(record)}: the bucket holds other bytes")
        return wrong

    async def statuses(self, session: aiohttp.ClientSession) -> dict[str, int]:
        images = await self._images(session)
        found = {"gone": len(self._crowd.records) - len(images)}
        for image in images.values():
            found[image["status"]] = found.get(image["status"], 0) + 1
        return found

    def _judge(self, record: Record, image: dict[str, Any] | None) -> list[str]:
        status = "deleted" if image is None else image["status"]
        wrong = []
        if status not in FINAL:
            wrong.append(f"is {status}")
        if record.deleted is Said.DONE and status != "deleted":
            wrong.append(f"is {status} although its delete was acknowledged")
        made = record.created is Said.DONE
        if made and record.deleted is Said.NOTHING and status == "deleted":
            wrong.append("is gone although nobody deleted it")
        kept = record.deleted is Said.NOTHING
        if record.filled is Said.DONE and kept and status != "active":
            wrong.append(f"is {status} although {record.code} was answered")
        if record.filled is Said.REFUSED and status == "active":
            wrong.append(f"is active although {record.code} was answered")
        if status == "queued" and record.filled in (Said.DONE, Said.REFUSED) and kept:
            wrong.append(f"is queued although {record.code} was answered")
        if record.by_location and status == "killed":
            wrong.append("was registered by its location and is killed")
        if image is not None and status == "active" and image["size"] != record.size:
            wrong.append(f"is active with {image['size']} bytes")
        if image is not None and status == "killed" and image["size"] is not None:
            wrong.append("is killed and has a size")
        return [f"{_name(record)} {what}" for what in wrong]

    def _judge_bucket(self, images: dict[str, dict[str, Any]]) -> list[str]:
        ours = {
            _key(images[record.id]): record
            for record in self._crowd.records.values()
            if not record.by_location
            and record.id in images
            and images[record.id]["status"] == "active"
        }
        objects = self._bucket.objects()
        wrong = [f"{key}: nobody owns this object" for key in objects.keys() - ours.keys()
                 if key != self._foreign]  # fmt: skip
        wrong += [
            f"{_name(ours[key])}: its object is missing" for key in ours.keys() - objects.keys()
        ]
        wrong += [
            f"{_name(ours[key])}: its object has {objects[key]} bytes"
            for key in ours.keys() & objects.keys()
            if objects[key] != ours[key].size
        ]
        unfinished = [key for key, _ in self._bucket.unfinished()]
        wrong += [
            f"{key}: a multipart upload is open" for key in unfinished if key != self._foreign
        ]
        if self._foreign not in objects or self._foreign not in unfinished:
            wrong.append("something of others in the bucket was removed")
        return wrong

    def _judge_rows(self) -> list[str]:
        with closing(sqlite3.connect(f"file:{self._catalog}?mode=ro", uri=True)) as connection:
            (sound,) = connection.execute("PRAGMA quick_check").fetchone()
            wrong = [] if sound == "ok" else [f"the catalog is damaged: {sound}"]
            running = "SELECT image_id, state FROM uploads WHERE ended_at IS NULL"
            wrong += [f"{image}: an attempt is {state}"
                      for image, state in connection.execute(running)]  # fmt: skip
            # one that lies ahead is a second look at what was removed already; every look of the
            # janitor takes what is due
            owed = (
                "SELECT key, attempts, message FROM removals "
                "WHERE lease_until IS NULL OR lease_until < ?"
            )
            overdue = time.clock_gettime(time.CLOCK_BOOTTIME) - _LOOK
            wrong += [
                f"{key}: its removal is still owed ({attempts} failed: {message})"
                for key, attempts, message in connection.execute(owed, (overdue,))
            ]
            never = (
                "SELECT image_id FROM uploads u JOIN images i ON i.id = u.image_id "
                "WHERE i.status = 'queued'"
            )
            wrong += [f"{image} is queued although an upload was begun"
                      for (image,) in connection.execute(never)]  # fmt: skip
        return wrong

    async def _images(self, session: aiohttp.ClientSession) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        path = "/v2/images?limit=1000"
        while path:
            async with session.get(self._url + path) as answer:
                page = await answer.json()
            found |= {image["id"]: image for image in page["images"]}
            path = page.get("next", "")
        return found


def _key(image: dict[str, Any]) -> str:
    """Of the one location of an image of ours."""
    (location,) = image["locations"]
    key: str = location["url"].split("/", 3)[3]
    return key


def _name(record: Record) -> str:
    return f"{record.id} ({record.way}, {record.size} bytes)"
