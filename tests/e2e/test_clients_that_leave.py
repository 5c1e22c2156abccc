"""Clients that break off, or send other bytes than they announced: the image is killed and says
why and where, and nothing is left in the bucket. At once: the lease is too long for the janitor."""

import asyncio
import base64
import hashlib
import io
import socket
import struct
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.gateway import DATA, Answer
from tests.kit.server import Remote, Server
from tests.kit.sources import pattern

BIG = pattern(12 * MIB)  # three parts
SMALL = pattern(100_000)  # one put
SIZES = pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


@pytest.fixture(scope="module")
def server(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    path = bucket.configure(folder, server={"workers": 2}, uploads={"lease": "10m"})
    with Server(folder, "--config", str(path)) as found:
        yield found


class Client:
    """Sends a body by hand, so that it can stop anywhere."""

    def __init__(self, gate: Remote, version: str) -> None:
        self.gate = gate
        self.version = version
        self.image_id = str(uuid4())
        self.request_id = f"req-{uuid4()}"

    async def begin(self, framing: str) -> None:
        lines = ["Host: 127.0.0.1", f"Content-Type: {DATA}", framing,
                 f"X-Openstack-Request-ID: {self.request_id}"]  # fmt: skip
        if self.version == "v1":
            meta = {"id": self.image_id, "disk_format": "raw", "container_format": "bare"}
            given = [f"x-image-meta-{name}: {value}" for name, value in meta.items()]
            lines = ["POST /v1/images HTTP/1.1", *lines, *given]
        else:
            assert await self.gate.create(id=self.image_id) == self.image_id
            lines = [f"PUT /v2/images/{self.image_id}/file HTTP/1.1", *lines]
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.gate.port)
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def claimed(self) -> None:
        async with asyncio.timeout(30):
            while (await self.gate.ask("GET", f"/v2/images/{self.image_id}")).status != 200:
                await asyncio.sleep(0.01)
        await self.gate.wait_for_status(self.image_id, "saving")

    async def leave(self, how: str) -> None:
        if how == "RST":
            inner: socket.socket = self.writer.get_extra_info("socket")
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()
        await self.writer.wait_closed()


async def expect_killed(gate: Remote, bucket: Bucket, image_id: str) -> dict[str, Any]:
    """The failure's record of an image that is, or soon will be, killed, with a clean bucket."""
    await gate.wait_for_status(image_id, "killed")
    assert bucket.of(image_id) == []
    image = await gate.show(image_id)
    assert (image["size"], image["checksum"], image["os_hash_value"]) == (None, None, None)
    (upload,) = (await gate.ask("GET", f"/v2/images/{image_id}/uploads")).json["uploads"]
    assert upload["state"] == "failed"
    failure: dict[str, Any] = upload["failure"]
    # who asks for the data is told why there is none
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 404
    assert failure["message"] in answer.message
    return failure


@VERSIONS
@SIZES
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("share", ["0%", "1%", "50%", "99%", "all but a byte"])
async def test_a_client_that_leaves(
    gate: Remote, bucket: Bucket, version: str, data: bytes, framing: str, how: str, share: str
) -> None:
    client = Client(gate, version)
    sent = len(data) - 1 if share == "all but a byte" else len(data) * int(share[:-1]) // 100
    chunked = framing == "chunked"
    await client.begin("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}")
    if chunked and sent:
        await client.send(f"{len(data):x}\r\n".encode())
    await client.send(data[:sent])
    await client.claimed()
    await client.leave(how)
    failure = await expect_killed(gate, bucket, client.image_id)
    assert failure["reason"] == "client_gone"
    assert failure["where"] == "reading"
    assert failure["bytes_received"] <= sent
    assert failure["request_id"] == client.request_id


@VERSIONS
@SIZES
async def test_a_chunked_body_without_its_last_chunk_is_not_whole(
    gate: Remote, bucket: Bucket, version: str, data: bytes
) -> None:
    client = Client(gate, version)
    await client.begin("Transfer-Encoding: chunked")
    await client.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await client.claimed()
    await client.leave("FIN")
    failure = await expect_killed(gate, bucket, client.image_id)
    assert failure["reason"] == "client_gone"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_client_that_leaves_before_the_answer_has_an_image_all_the_same(
    gate: Remote, bucket: Bucket, version: str
) -> None:
    client = Client(gate, version)
    await client.begin(f"Content-Length: {len(BIG)}")
    await client.send(BIG)
    await client.leave("FIN")
    status = await gate.wait_for_status(client.image_id, "active", "killed")
    found = [bucket.get(key) for key in bucket.of(client.image_id)]
    assert found == ([BIG] if status == "active" else [])


# other bytes than announced


async def fill(
    gate: Remote, version: str, data: bytes, headers: dict[str, str], *, chunked: bool = False
) -> tuple[str, Answer]:
    """The id of a new image, and the answer to its data."""

    async def pieces() -> Any:
        for at in range(0, len(data), MIB):
            yield data[at : at + MIB]

    body: Any = pieces() if chunked else io.BytesIO(data)
    if version == "v2":
        image_id = await gate.create()
        return image_id, await gate.put(image_id, body, headers)
    image_id = str(uuid4())
    meta = {"id": image_id, "disk_format": "raw", "container_format": "bare"}
    given = {f"x-image-meta-{name}": value for name, value in meta.items()}
    answer = await gate.ask(
        "POST", "/v1/images", data=body, headers={"Content-Type": DATA, **given, **headers}
    )
    return image_id, answer


@SIZES
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("more", [-1, 1, 10**6])
@pytest.mark.parametrize(
    ("version", "header"), [("v1", "x-image-meta-size"), ("v2", "x-openstack-image-size")]
)
async def test_another_size_than_announced(
    gate: Remote, bucket: Bucket, version: str, header: str, data: bytes, chunked: bool, more: int
) -> None:
    announced = len(data) + more
    image_id, answer = await fill(gate, version, data, {header: str(announced)}, chunked=chunked)
    assert answer.status == 400
    assert str(announced) in answer.message
    failure = await expect_killed(gate, bucket, image_id)
    assert failure["reason"] == "size_mismatch"
    assert failure["where"] in ("reading", "verify")
    assert failure["message"] == answer.message
    assert failure["request_id"] == answer.headers["x-openstack-request-id"]


def coded(algorithm: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


def announcements(data: bytes) -> list[tuple[str, str, str]]:
    """API version, header and value of every way to say what will come."""
    return [
        ("v2", "Content-MD5", coded("md5", data)),
        ("v2", "Content-MD5", hashlib.md5(data).hexdigest()),
        ("v2", "Repr-Digest", f"sha-256=:{coded('sha256', data)}:"),
        ("v2", "Repr-Digest", f"sha-512=:{coded('sha512', data)}:"),
        ("v2", "Content-Digest", f"sha-256=:{coded('sha256', data)}:"),
        ("v1", "Content-MD5", coded("md5", data)),
        ("v1", "x-image-meta-checksum", hashlib.md5(data).hexdigest()),
    ]


WAYS = pytest.mark.parametrize(
    "way", range(7), ids=[f"{v}-{h}-{n}" for n, (v, h, _) in enumerate(announcements(b""))]
)


@SIZES
@WAYS
async def test_another_digest_than_announced(
    gate: Remote, bucket: Bucket, way: int, data: bytes
) -> None:
    version, header, value = announcements(data[:-1] + b"\xff")[way]
    image_id, answer = await fill(gate, version, data, {header: value})
    assert answer.status == 400
    assert "digest" in answer.message
    failure = await expect_killed(gate, bucket, image_id)
    assert failure["reason"] == "digest_mismatch"
    assert failure["where"] == "verify"
    assert failure["bytes_received"] == len(data)
    assert failure["request_id"] == answer.headers["x-openstack-request-id"]


@SIZES
@WAYS
async def test_the_announced_digest(gate: Remote, bucket: Bucket, way: int, data: bytes) -> None:
    version, header, value = announcements(data)[way]
    image_id, answer = await fill(gate, version, data, {header: value})
    assert answer.status == (201 if version == "v1" else 204), answer.body
    assert [bucket.get(key) for key in bucket.of(image_id)] == [data]
