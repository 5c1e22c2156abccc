"""What is special to S3: credentials, buckets, what its refusals mean, and answers that say
nothing."""

import asyncio
import base64
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import stamina
from aiohttp import web
from awscrt.checksums import crc32c, crc64nvme
from structlog.testing import capture_logs
from tests.kit.keystone_fake import self_signed
from tests.kit.sources import pattern
from tests.kit.stores import objects, part_of, read_all, unfinished
from tests.stores.test_contract import key, s3_settings

from tidegate.domain.errors import (
    BadPart,
    CallMissing,
    NotCopied,
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreFull,
    StoreReadOnly,
    UploadMissing,
)
from tidegate.seaweedfs import SeaweedFS
from tidegate.settings import S3Store as S3Settings
from tidegate.stores import s3
from tidegate.stores.s3 import S3Store
from tidegate.stores.s3_http import Again, judge

MIB = 2**20
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@asynccontextmanager
async def opened(settings: S3Settings) -> AsyncIterator[S3Store]:
    store = S3Store(settings)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def refused(settings: S3Settings) -> str:
    """Why it does not open."""
    with pytest.raises(StoreDown) as found:
        async with opened(settings):
            pass
    assert "\n" not in found.value.message
    return found.value.reason


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials anywhere around."""
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def sleep(seconds: float) -> None: ...

    monkeypatch.setattr(s3, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


def on(server: SeaweedFS, **more: object) -> S3Settings:
    return s3_settings(server.endpoint, server.access_key, server.secret_key, **more)


# credentials and buckets, at a real server


@pytest.mark.usefixtures("nobody")
async def test_without_credentials_it_does_not_open() -> None:
    assert "no credentials" in await refused(s3_settings("http://127.0.0.1:1", "", ""))


@pytest.mark.usefixtures("nobody")
async def test_credentials_may_come_from_the_environment(
    seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    async with opened(s3_settings(seaweedfs.endpoint, "", "")) as store:
        await store.put(key(), part_of(b"x"))
        assert len(await objects(store)) == 1


async def test_the_secret_may_come_from_a_file(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(f"{seaweedfs.secret_key}\n", encoding="utf-8")
    settings = s3_settings(seaweedfs.endpoint, seaweedfs.access_key, "", secret_key_file=path)
    async with opened(settings) as store:
        await store.ping()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
async def test_a_file_of_the_secret_that_cannot_be_read_is_told(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.touch(0o600)
        path.write_bytes(content)
    said = await refused(s3_settings("http://127.0.0.1:1", secret_key_file=path))
    assert "secret_key_file" in said


async def test_sec_64_a_file_of_the_secret_that_is_open_to_others_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cr3t-value", encoding="utf-8")
    path.chmod(0o640)
    said = await refused(s3_settings("http://127.0.0.1:1", secret_key_file=path))
    assert "chmod 600" in said
    assert "s3cr3t-value" not in said


# TLS


@asynccontextmanager
async def secure(certificate: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """A server by TLS that has every bucket and takes every object; its URL, and who came."""
    came: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        came.append(request.method)
        await request.read()
        return web.Response(headers={"ETag": '"x"'})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", came
    finally:
        await runner.cleanup()


async def test_sec_70_a_certificate_must_be_of_a_known_authority(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path / "certificate.pem")
    async with secure(certificate) as (url, came):
        assert "certificate" in await refused(s3_settings(url, attempts=1))
        assert came == []


async def test_sec_70_an_authority_of_ones_own_is_trusted_by_control_calls_and_bytes(
    tmp_path: Path,
) -> None:
    certificate = self_signed(tmp_path / "certificate.pem")
    async with secure(certificate) as (url, came):
        async with opened(s3_settings(url, attempts=1, ca_file=certificate)) as store:
            await store.put(key(), part_of(b"abc"))
        assert came == ["HEAD", "PUT"]


async def test_sec_70_bytes_go_to_no_other_authority_than_control_calls(tmp_path: Path) -> None:
    ours, other = (self_signed(tmp_path / f"{name}.pem") for name in ("ours", "other"))
    async with secure(ours) as (url, _), secure(other) as (elsewhere, came):
        async with opened(s3_settings(url, attempts=1, ca_file=ours)) as store:
            store._http._base = elsewhere
            with pytest.raises(StoreError, match="certificate"):
                await store.put(key(), part_of(b"abc"))
        assert came == []


async def test_a_file_of_authorities_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    for content in (None, "no certificate"):
        if content is not None:
            path.write_text(content, encoding="utf-8")
        said = await refused(s3_settings("https://127.0.0.1:1", ca_file=path))
        assert said == f"ca_file: cannot use {path}"


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [("http://s3.example", True), ("http://10.0.0.1:8333", True), ("http://127.0.0.1:1", False),
     ("http://localhost:1", False), ("http://[::1]:1", False), ("https://s3.example", False)],
)  # fmt: skip
async def test_sec_70_data_in_clear_to_another_host_is_told_at_each_start(
    endpoint: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def see(self: S3Store) -> None: ...

    monkeypatch.setattr(S3Store, "_see_bucket", see)
    for _ in range(2):
        with capture_logs() as logs:
            async with opened(s3_settings(endpoint)):
                pass
        said = [(entry["event"], entry["log_level"], entry["store"]) for entry in logs]
        wanted = ("image data goes to the store without TLS", "warning", "main")
        assert said == ([wanted] if told else [])


@pytest.mark.parametrize(("access", "secret"), [("nobody", None), (None, "wrong-secret")])
async def test_wrong_credentials_do_not_open(
    seaweedfs: SeaweedFS, access: str | None, secret: str | None
) -> None:
    settings = s3_settings(
        seaweedfs.endpoint, access or seaweedfs.access_key, secret or seaweedfs.secret_key
    )
    said = await refused(settings)
    assert "credentials" in said
    assert "wrong-secret" not in said


async def test_a_bucket_that_is_not_there_is_not_made_unasked(seaweedfs: SeaweedFS) -> None:
    settings = on(seaweedfs, create_bucket=False)
    said = await refused(settings)
    assert repr(settings.bucket) in said
    assert "create_bucket" in said
    assert "does not exist" in await refused(settings)


async def test_a_bucket_is_made_if_asked_and_used_again(seaweedfs: SeaweedFS) -> None:
    settings = on(seaweedfs)
    where = key()
    async with opened(settings) as store:
        await store.put(where, part_of(b"x"))
    async with opened(settings.model_copy(update={"create_bucket": False})) as store:
        assert await read_all(store, where) == b"x"


async def test_nobody_listens(seaweedfs: SeaweedFS) -> None:
    assert "no answer" in await refused(s3_settings("http://127.0.0.1:1", attempts=1))


async def test_nothing_beside_the_prefix_is_seen_or_touched(seaweedfs: SeaweedFS) -> None:
    settings = on(seaweedfs)
    other = settings.model_copy(update={"prefix": "some/whereelse/"})
    async with opened(settings) as ours, opened(other) as theirs:
        where = key()
        await theirs.put(where, part_of(b"theirs"))
        begun = await theirs.begin(where)
        assert await objects(ours) == {}
        assert await unfinished(ours) == []
        await ours.delete(where)
        await ours.abort(where, begun.upload_id)
        assert await read_all(theirs, where) == b"theirs"
        assert await unfinished(theirs) == [(where, begun.upload_id)]
        await theirs.abort(where, begun.upload_id)


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "md5"])
async def test_each_checksum_is_verified_by_the_store(seaweedfs: SeaweedFS, checksum: str) -> None:
    data = pattern(6 * MIB)
    async with opened(on(seaweedfs, part_checksum=checksum)) as store:
        where = key()
        writing = await store.begin(where)
        await writing.put_part(part_of(data[: 5 * MIB]))
        await writing.put_part(part_of(data[5 * MIB :], number=2, offset=5 * MIB))
        await writing.complete(len(data), crc64nvme(data))
        assert await read_all(store, where) == data


# what a refusal means


@pytest.mark.parametrize(
    ("status", "code", "kind", "again"),
    [
        (400, "BadDigest", BadPart, True),
        (400, "XAmzContentChecksumMismatch", BadPart, True),
        (400, "InvalidDigest", BadPart, True),
        (400, "IncompleteBody", BadPart, True),
        (400, "EntityTooLarge", StoreFull, False),
        (403, "QuotaExceeded", StoreFull, False),
        (507, "", StoreFull, False),
        (507, "XMinioStorageFull", StoreFull, False),
        (404, "NoSuchKey", ObjectMissing, False),
        (404, "404", ObjectMissing, False),
        (404, "", ObjectMissing, False),
        (404, "NoSuchUpload", UploadMissing, False),
        (501, "NotImplemented", CallMissing, False),
        (501, "", CallMissing, False),
        (404, "NoSuchBucket", StoreDown, False),
        (412, "PreconditionFailed", ObjectChanged, False),
        (412, "", ObjectChanged, False),
        (405, "MethodNotAllowed", StoreReadOnly, False),
        (403, "AccessDenied", StoreDown, False),
        (403, "", StoreDown, False),
        (403, "SignatureDoesNotMatch", StoreDown, False),
        (403, "InvalidAccessKeyId", StoreDown, False),
        (400, "ExpiredToken", StoreDown, False),
        (403, "RequestTimeTooSkewed", StoreDown, False),
        (500, "InternalError", StoreDown, True),
        (502, "", StoreDown, True),
        (503, "SlowDown", StoreDown, True),
        (503, "ServiceUnavailable", StoreDown, True),
        (200, "SlowDown", StoreDown, True),
        (400, "RequestTimeout", StoreDown, True),
        (408, "", StoreDown, True),
        (429, "", StoreDown, True),
        (400, "InvalidPart", StoreBroke, False),
        (400, "EntityTooSmall", StoreBroke, False),
        (400, "MalformedXML", StoreBroke, False),
        (409, "", StoreBroke, False),
        (418, "Teapot", StoreBroke, False),
    ],
)
def test_what_a_refusal_means(status: int, code: str, kind: type[StoreError], again: bool) -> None:
    found = judge("main", status, code)
    assert isinstance(found, Again) is again
    error = found.error if isinstance(found, Again) else found
    assert type(error) is kind
    assert isinstance(error, StoreError)
    assert error.store == "main"


def test_a_skewed_clock_is_named() -> None:
    assert "clock" in str(judge("main", 403, "RequestTimeTooSkewed"))


# a server that answers as told


class Stub:
    """As much of S3 as the store asks for. ``script`` maps a call to the ways of its next
    answers, in order: ``ok``, ``done, …`` (it is done although the answer is another), a status,
    ``error`` (200 with an error inside), ``cut`` (no answer at all). Calls: see ``_name``."""

    def __init__(self) -> None:
        self.script: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.requests: list[Any] = []
        self.objects: dict[str, bytes] = {}
        self.parts: dict[int, bytes] = {}
        self.url = ""
        self.pages: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = self._name(request)
        body = await request.read()
        self.calls.append(name)
        self.requests.append((request.method, str(request.rel_url), request.headers.copy(), body))
        ways = self.script.get(name, [])
        way = ways.pop(0) if ways else "ok"
        done, _, rest = way.partition(", ")
        way = rest or done
        if way == "ok" or done == "done":
            response = self._do(name, request, body)
        if way == "cut":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if way == "error":
            text = "<Error><Code>InternalError</Code><Message>We failed</Message></Error>"
            return web.Response(text=text, content_type="application/xml")
        if way.isdigit():
            return web.Response(status=int(way))
        return response

    def _name(self, request: web.Request) -> str:
        query, bucket = request.query, request.path.count("/") == 1
        if bucket and request.method == "HEAD":
            return "bucket"
        if "uploads" in query:
            return "create" if request.method == "POST" else "list"
        if "list-type" in query:
            return "list"
        if "x-amz-copy-source" in request.headers:
            return "copy"
        if "partNumber" in query:
            return "part"
        if "uploadId" in query:
            return "complete" if request.method == "POST" else "abort"
        return request.method.lower()

    def _do(self, name: str, request: web.Request, body: bytes) -> web.Response:
        xml = "application/xml"
        match name:
            case "create":
                text = "<Initiated><UploadId>u1</UploadId></Initiated>"
                return web.Response(text=text, content_type=xml)
            case "part":
                self.parts[int(request.query["partNumber"])] = body
                return web.Response(headers={"ETag": '"p"'})
            case "copy":
                self.parts[int(request.query["partNumber"])] = b"abc"
                text = '<CopyPartResult><ETag>"p"</ETag></CopyPartResult>'
                return web.Response(text=text, content_type=xml)
            case "complete":
                data = b"".join(self.parts[number] for number in sorted(self.parts))
                self.objects[request.path] = data
                text = '<Completed><ETag>"c"</ETag></Completed>'
                return web.Response(text=text, content_type=xml)
            case "put":
                self.objects[request.path] = body
                return web.Response(headers={"ETag": '"w"'})
            case "head" | "get":
                data = self.objects.get(request.path)
                if data is None:
                    return web.Response(status=404)
                return web.Response(body=data, headers={"ETag": '"w"'})
            case "list":
                return web.Response(text=self.pages.pop(0), content_type=xml)
        return web.Response(status=204 if name in ("abort", "delete") else 200)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", stub.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield stub
    await runner.cleanup()


@pytest.fixture
async def store(stub: Stub) -> AsyncIterator[S3Store]:
    async with opened(s3_settings(stub.url, attempts=3, timeout=2, prefix="p/")) as found:
        yield found


DATA = pattern(6 * MIB)
WHERE = "image/attempt"


async def completed(store: S3Store) -> object:
    writing = await store.begin(WHERE)
    await writing.put_part(part_of(DATA[: 5 * MIB]))
    await writing.put_part(part_of(DATA[5 * MIB :], number=2, offset=5 * MIB))
    return await writing.complete(len(DATA), crc64nvme(DATA))


# complete: an answer says nothing, what is there decides (RELIABILITY §0.5)


@pytest.mark.parametrize("way", ["500", "error", "cut", "404", "503"])
async def test_done_although_the_answer_is_another_is_done(
    store: S3Store, stub: Stub, way: str
) -> None:
    stub.script["complete"] = [f"done, {way}"] * 10
    await completed(store)
    assert stub.calls.count("complete") == 1
    assert stub.calls[-1] == "head"


@pytest.mark.parametrize("way", ["500", "error", "cut", "503"])
async def test_not_done_is_tried_again(store: S3Store, stub: Stub, way: str) -> None:
    stub.script["complete"] = [way]
    await completed(store)
    assert stub.calls.count("complete") == 2


@pytest.mark.parametrize("way", ["500", "error", "cut", "503"])
async def test_never_done_is_an_error_after_so_many_tries(
    store: S3Store, stub: Stub, way: str
) -> None:
    stub.script["complete"] = [way] * 10
    with pytest.raises((StoreDown, StoreBroke)):
        await completed(store)
    assert stub.calls.count("complete") == 3


@pytest.mark.parametrize("way", ["400", "404"])
async def test_a_plain_no_is_not_asked_for_again(store: S3Store, stub: Stub, way: str) -> None:
    stub.script["complete"] = [way] * 10
    with pytest.raises(StoreBroke):
        await completed(store)
    assert stub.calls.count("complete") == 1


async def test_a_yes_that_made_no_object_is_an_error(store: S3Store, stub: Stub) -> None:
    stub.script["head"] = ["404"] * 10
    with pytest.raises(StoreBroke):
        await completed(store)


async def test_one_look_that_sees_nothing_yet_is_not_the_end(store: S3Store, stub: Stub) -> None:
    stub.script["head"] = ["404"]
    await completed(store)
    assert len(stub.objects) == 1


async def test_an_object_of_another_size_is_an_error(store: S3Store, stub: Stub) -> None:
    writing = await store.begin(WHERE)
    await writing.put_part(part_of(DATA[: 5 * MIB]))
    with pytest.raises(StoreBroke, match=str(5 * MIB)):
        await writing.complete(len(DATA), None)


async def test_a_store_that_cannot_be_looked_at_is_down(store: S3Store, stub: Stub) -> None:
    stub.script["head"] = ["503"] * 20
    with pytest.raises(StoreDown):
        await completed(store)


async def test_the_list_of_parts_is_our_own(store: S3Store, stub: Stub) -> None:
    await completed(store)
    (body,) = (body for method, _, _, body in stub.requests if method == "POST" and body)
    assert body.count(b"<PartNumber>") == 2
    assert body.count(b"<ETag>") == 2
    assert base64.b64encode(crc64nvme(DATA[: 5 * MIB]).to_bytes(8, "big")) in body


# parts


@pytest.mark.parametrize("way", ["500", "503", "cut", "429"])
async def test_a_part_is_sent_again(store: S3Store, stub: Stub, way: str) -> None:
    stub.script["part"] = [way, way]
    await completed(store)
    assert stub.calls.count("part") == 4
    assert list(stub.objects.values()) == [DATA]


async def test_a_part_has_so_many_tries(store: S3Store, stub: Stub) -> None:
    stub.script["part"] = ["500"] * 10
    with pytest.raises(StoreDown):
        await completed(store)
    assert stub.calls.count("part") == 3


async def test_a_part_of_an_upload_that_is_gone_is_broken(store: S3Store, stub: Stub) -> None:
    stub.script["part"] = ["404"]
    with pytest.raises(StoreBroke, match="no longer knows"):
        await completed(store)


@pytest.mark.parametrize(
    ("checksum", "header", "value"),
    [
        ("crc64nvme", "x-amz-checksum-crc64nvme", crc64nvme(b"abc").to_bytes(8, "big")),
        ("crc32c", "x-amz-checksum-crc32c", crc32c(b"abc").to_bytes(4, "big")),
        ("md5", "Content-MD5", hashlib.md5(b"abc").digest()),
        ("none", None, b""),
    ],
)
async def test_each_part_carries_its_checksum(
    stub: Stub, checksum: str, header: str | None, value: bytes
) -> None:
    async with opened(s3_settings(stub.url, part_checksum=checksum)) as store:
        await store.put(key(), part_of(b"abc"))
    _, _, headers, body = stub.requests[-1]
    assert body == b"abc"
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    found = {
        name.lower() for name in headers if "checksum" in name.lower() or "md5" in name.lower()
    }
    assert found == ({header.lower()} if header else set())
    if header is not None:
        assert headers[header] == base64.b64encode(value).decode()


# copies


async def copied(store: S3Store) -> int | None:
    writing = await store.begin(key())
    return await writing.copy_part(1, "i/a", 5, 8, etag='"w"')


async def test_a_copy_names_its_source_by_bucket_prefix_range_and_version(
    store: S3Store, stub: Stub
) -> None:
    assert await copied(store) is None
    method, _, headers, body = stub.requests[-1]
    assert (method, body) == ("PUT", b"")
    assert headers["x-amz-copy-source"] == f"{store._settings.bucket}/p/i/a"
    assert headers["x-amz-copy-source-range"] == "bytes=5-7"
    assert headers["x-amz-copy-source-if-match"] == '"w"'


@pytest.mark.parametrize("way", ["500", "503", "error", "cut", "done, cut", "done, error"])
async def test_a_copy_is_asked_for_again(store: S3Store, stub: Stub, way: str) -> None:
    stub.script["copy"] = [way, way]
    await copied(store)
    assert stub.calls.count("copy") == 3


async def test_a_copy_has_so_many_tries(store: S3Store, stub: Stub) -> None:
    stub.script["copy"] = ["error"] * 20
    with pytest.raises(StoreDown):
        await copied(store)
    assert stub.calls.count("copy") == 3


@pytest.mark.parametrize("way", ["405", "501", "200"])
async def test_a_server_that_does_not_copy_is_asked_once(
    store: S3Store, stub: Stub, way: str
) -> None:
    stub.script["copy"] = [way]  # 200: it stored the request's body, which is empty
    with pytest.raises(NotCopied):
        await copied(store)
    assert stub.calls.count("copy") == 1


@pytest.mark.parametrize(("way", "kind"), [("404", ObjectMissing), ("412", ObjectChanged)])
async def test_a_source_that_is_another_is_not_asked_for_again(
    store: S3Store, stub: Stub, way: str, kind: type[StoreError]
) -> None:
    stub.script["copy"] = [way]
    with pytest.raises(kind):
        await copied(store)
    assert stub.calls.count("copy") == 1


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "md5", "none"])
async def test_parts_are_copied_whatever_sent_ones_carry(
    seaweedfs: SeaweedFS, checksum: str
) -> None:
    data = pattern(17 * MIB + 5)
    async with opened(on(seaweedfs, part_checksum=checksum)) as store:
        source, where = key(), key()
        await store.put(source, part_of(data))
        etag = (await store.look(source)).etag
        writing = await store.begin(where)
        for number, (start, stop) in enumerate(((0, 9 * MIB + 1), (9 * MIB + 1, len(data))), 1):
            crc = await writing.copy_part(number, source, start, stop, etag=etag)
            assert (crc is not None) is (checksum == "crc64nvme")
        await writing.complete(len(data), crc64nvme(data))
        await store.delete(source)
        assert await read_all(store, where) == data


async def test_an_object_that_is_not_what_was_copied_is_not_completed(
    seaweedfs: SeaweedFS,
) -> None:
    data = pattern(1000)
    async with opened(on(seaweedfs)) as store:
        source, where = key(), key()
        await store.put(source, part_of(data))
        writing = await store.begin(where)
        await writing.copy_part(1, source, 0, 1000, etag=None)
        with pytest.raises(StoreError):
            await writing.complete(1000, crc64nvme(data) ^ 1)
        await store.abort(where, writing.upload_id)
        await store.delete(where)


# pages of the sweep


def page(*entries: tuple[str, str], more: tuple[str, str] | None = None) -> str:
    uploads = "".join(
        f"<Upload><Key>{where}</Key><UploadId>{upload}</UploadId>"
        "<Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>"
        for where, upload in entries
    )
    marks = ""
    if more is not None:
        marks = (
            f"<NextKeyMarker>{more[0]}</NextKeyMarker>"
            f"<NextUploadIdMarker>{more[1]}</NextUploadIdMarker>"
        )
    return (
        f"<ListMultipartUploadsResult><IsTruncated>{str(more is not None).lower()}</IsTruncated>"
        f"{marks}{uploads}</ListMultipartUploadsResult>"
    )


async def test_open_uploads_are_listed_page_by_page(store: S3Store, stub: Stub) -> None:
    stub.pages = [
        page(("p/i/a", "1"), ("p/i/a", "2"), more=("p/i/a", "2")),
        page(more=("p/i/b", "0")),
        page(("p/i/b", "3")),
    ]
    found = [entry async for entry in store.unfinished()]
    assert [(entry.key, entry.upload_id) for entry in found] == [
        ("i/a", "1"), ("i/a", "2"), ("i/b", "3"),
    ]  # fmt: skip
    assert found[0].begun == 1767323045
    queries = [url for method, url, _, _ in stub.requests if "uploads" in url]
    assert "key-marker=p%2Fi%2Fa&upload-id-marker=2" in queries[1]
    assert all("prefix=p%2F" in query for query in queries)


async def test_a_page_that_does_not_come_is_an_error_and_no_end(store: S3Store, stub: Stub) -> None:
    stub.pages = [page(("p/i/a", "1"), more=("p/i/a", "1"))]
    stub.script["list"] = ["ok", *["500"] * 10]
    with pytest.raises(StoreDown):
        await unfinished(store)


def keys_page(*found: str, more: str | None = None, truncated: bool = False) -> str:
    contents = "".join(
        f'<Contents><Key>{where}</Key><Size>5</Size><ETag>"{"0" * 32}"</ETag></Contents>'
        for where in found
    )
    token = "" if more is None else f"<NextContinuationToken>{more}</NextContinuationToken>"
    return (
        f"<ListBucketResult><IsTruncated>{str(truncated or more is not None).lower()}"
        f"</IsTruncated>{token}{contents}</ListBucketResult>"
    )


async def test_keys_are_listed_page_by_page(store: S3Store, stub: Stub) -> None:
    stub.pages = [keys_page("p/a", "p/b", more="t1"), keys_page(more="t2"), keys_page("p/c")]
    assert list(await objects(store)) == ["a", "b", "c"]
    assert "continuation-token=t2" in stub.requests[-1][1]


@pytest.mark.parametrize(
    "pages",
    [
        [keys_page("p/a", truncated=True)],
        [keys_page("p/a", more="t"), keys_page("p/b", more="t"), keys_page("p/c")],
    ],
)
async def test_half_a_list_is_an_error_and_no_end(
    store: S3Store, stub: Stub, pages: list[str]
) -> None:
    stub.pages = pages
    with pytest.raises(StoreBroke, match="breaks off"):
        await objects(store)


async def test_half_a_list_of_uploads_is_an_error_and_no_end(store: S3Store, stub: Stub) -> None:
    half = page(("p/i/a", "1"), more=("", ""))
    stub.pages = [half]
    with pytest.raises(StoreBroke, match="breaks off"):
        await unfinished(store)


async def test_more_than_a_thousand_keys_of_any_characters(seaweedfs: SeaweedFS) -> None:
    odd = ["a b", "ä & <b>", "100%25", "plus+", "new\nline", "[red]x", "q?x=1", "bell\x07", "'\""]
    wanted = {key() for _ in range(1100)} | {f"{uuid4()}/{name}" for name in odd}
    async with opened(on(seaweedfs)) as store:
        waiting = iter(sorted(wanted))

        async def put() -> None:
            for where in waiting:
                await store.put(where, part_of(b"12345"))

        await asyncio.gather(*(put() for _ in range(16)))
        listed = [entry async for entry in store.keys()]
        assert len(listed) == len(wanted)
        assert {entry.key for entry in listed} == wanted
        assert {entry.md5 for entry in listed} == {hashlib.md5(b"12345").hexdigest()}
        for name in odd:
            where = next(where for where in wanted if where.endswith(f"/{name}"))
            if name.isprintable() or "\n" in name:  # others the list of uploads cannot show
                await store.begin(where)
                assert where in {begun for begun, _ in await unfinished(store)}, name
            assert (await store.look(where)).size == 5
            await store.delete(where)
        assert len(await objects(store)) == 1100


# reading


async def test_a_server_without_ranges_is_not_read_from_the_start(
    store: S3Store, stub: Stub
) -> None:
    await store.put(WHERE, part_of(b"0123456789"))
    with pytest.raises(StoreBroke, match="range"):
        await read_all(store, WHERE, 5)


async def test_an_error_page_of_another_server_is_told_by_its_status(
    store: S3Store, stub: Stub
) -> None:
    stub.script["get"] = ["418"]
    with pytest.raises(StoreBroke, match="418"):
        await read_all(store, WHERE)


# addresses


@pytest.mark.parametrize(
    ("endpoint", "addressing", "url"),
    [
        ("http://127.0.0.1:8333", "path", "http://127.0.0.1:8333/images"),
        ("http://127.0.0.1:8333/", "path", "http://127.0.0.1:8333/images"),
        ("https://s3.example.org/under", "path", "https://s3.example.org/under/images"),
        ("https://s3.example.org", "virtual", "https://images.s3.example.org"),
        ("https://s3.example.org:444", "virtual", "https://images.s3.example.org:444"),
        ("https://s3.example.org:444/under", "virtual", "https://images.s3.example.org:444/under"),
    ],
)
def test_the_address_of_the_bucket(endpoint: str, addressing: str, url: str) -> None:
    settings = s3_settings(endpoint, addressing=addressing).model_copy(update={"bucket": "images"})
    store = S3Store(settings)
    store._client = SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint))
    assert store._base_url() == url


async def test_an_address_by_virtual_host_is_asked_for_by_that_host(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = stub.url.rpartition(":")[2]
    real = socket.getaddrinfo

    def here(host: Any, *rest: Any, **options: Any) -> Any:
        """Every name below localhost is this machine."""
        return real("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    settings = s3_settings(f"http://localhost:{port}", addressing="virtual")
    async with opened(settings) as store:
        await store.put("a/b", part_of(b"x"))
    hosts = {headers["Host"] for _, _, headers, _ in stub.requests}
    assert hosts == {f"{settings.bucket}.localhost:{port}"}


async def test_a_key_is_signed_as_it_is_sent(seaweedfs: SeaweedFS) -> None:
    async with opened(on(seaweedfs, prefix="with space/ü+~%/")) as store:
        where = f"{uuid4()}/{uuid4().hex}"
        await store.put(where, part_of(b"x"))
        assert await read_all(store, where) == b"x"
        assert await objects(store) == {where: 1}


async def test_a_location_says_the_bucket_and_no_secret(stub: Stub) -> None:
    async with opened(s3_settings(stub.url, "AKEY", "s3cr3t")) as store:
        assert store.url("a/b") == f"s3://{store._settings.bucket}/some/where/a/b"
