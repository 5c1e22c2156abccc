"""What the headers of a request say of its body, and what they may not."""

import base64
import hashlib
from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tidegate.api.body import expected
from tidegate.domain.errors import Invalid, Unsupported
from tidegate.domain.expected import Expected

DATA = b"some data"
WIDTHS = {"md5": 16, "sha": 20, "sha-256": 32, "sha-512": 64}
OURS = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}


def request(*headers: tuple[str, str]) -> web.Request:
    return make_mocked_request("PUT", "/", headers=CIMultiDict(headers))


def said(*headers: tuple[str, str]) -> Expected:
    return expected(request(*headers))


def b64(algorithm: str, data: bytes = DATA) -> str:
    return base64.b64encode(hashlib.new(OURS[algorithm], data).digest()).decode()


def hexadecimal(*algorithms: str) -> Mapping[str, str]:
    return {OURS[name]: hashlib.new(OURS[name], DATA).hexdigest() for name in algorithms}


def refused(*headers: tuple[str, str]) -> str:
    with pytest.raises(Invalid) as found:
        said(*headers)
    return found.value.message


# sizes


def test_without_headers_nothing_is_expected() -> None:
    assert said() == Expected(length=None, size=None, digests={})


def test_the_framings_length_is_one_thing_and_the_announced_size_another() -> None:
    found = said(("Content-Length", "9"), ("x-openstack-image-size", "10"))
    assert (found.length, found.size) == (9, 10)


@pytest.mark.parametrize("text", ["0", "1", "9999999999999999999"[:19], "007"])
def test_a_size(text: str) -> None:
    assert said(("x-openstack-image-size", text)).size == int(text)


@pytest.mark.parametrize(
    "text", ["", " ", "-1", "+1", "1.0", "1e3", "0x5", "1_000", "many", "٣", "²", "9" * 20, "1, 1"]
)
def test_what_is_no_size(text: str) -> None:
    assert "size" in refused(("x-openstack-image-size", text))


# digests


@pytest.mark.parametrize(
    "text", [b64("md5"), hexadecimal("md5")["md5"], hexadecimal("md5")["md5"].upper()]
)
def test_content_md5_is_base64_and_hex_is_understood(text: str) -> None:
    assert said(("Content-MD5", text)).digests == hexadecimal("md5")


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
@pytest.mark.parametrize("algorithm", list(WIDTHS))
def test_a_digest_field_of_each_algorithm(field: str, algorithm: str) -> None:
    assert said((field, f"{algorithm}=:{b64(algorithm)}:")).digests == hexadecimal(algorithm)


@pytest.mark.parametrize("gap", ["", " ", "\t", "  "])
def test_a_digest_field_of_several(gap: str) -> None:
    field = f"sha-256=:{b64('sha-256')}:,{gap}md5=:{b64('md5')}:"
    assert said(("Repr-Digest", field)).digests == hexadecimal("sha-256", "md5")


def test_fields_and_lines_are_put_together() -> None:
    found = said(
        ("Repr-Digest", f"sha-256=:{b64('sha-256')}:"),
        ("Repr-Digest", f"sha-512=:{b64('sha-512')}:"),
        ("Content-Digest", f"sha=:{b64('sha')}:"),
        ("Content-MD5", b64("md5")),
    )
    assert found.digests == hexadecimal("sha-256", "sha-512", "sha", "md5")


def test_the_same_digest_may_be_said_twice() -> None:
    found = said(("Repr-Digest", f"md5=:{b64('md5')}:"), ("Content-MD5", hexadecimal("md5")["md5"]))
    assert found.digests == hexadecimal("md5")


def test_two_different_digests_of_one_algorithm_are_refused() -> None:
    other = b64("md5", b"other")
    assert "md5" in refused(("Repr-Digest", f"md5=:{b64('md5')}:"), ("Content-MD5", other))
    assert "md5" in refused(("Repr-Digest", f"md5=:{b64('md5')}:, md5=:{other}:"))
    assert "md5" in refused(("Content-MD5", b64("md5")), ("Content-MD5", other))


@pytest.mark.parametrize("text", ["", "xyz", "!" * 24, "AAAA", b64("sha-256"), "é" * 32, "0" * 33])
def test_what_is_no_content_md5(text: str) -> None:
    assert "Content-MD5" in refused(("Content-MD5", text))


@pytest.mark.parametrize(
    "text",
    ["", ",", "md5", "md5=", "md5=abc", "md5=::", "md5=:AAAA:", "md5=:%%%%:", "=:AAAA:",
     "MD5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:;q=1",
     "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:,", "md5=:1B2M2Y8AsgTpgAmY7PhCfg:",
     "sha-256=:1B2M2Y8AsgTpgAmY7PhCfg==:"],
)  # fmt: skip
def test_what_is_no_digest_field(text: str) -> None:
    assert "Repr-Digest" in refused(("Repr-Digest", text))


@pytest.mark.parametrize("algorithm", ["crc32c", "unixsum", "adler", "sha-1024", "id-sha-256"])
def test_a_digest_that_nobody_would_check_is_refused(algorithm: str) -> None:
    message = refused(("Content-Digest", f"{algorithm}=:AAAA:"))
    assert algorithm in message
    assert "sha-512" in message


# codings


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
def test_bytes_are_taken_as_they_are_or_not_at_all(coding: str) -> None:
    with pytest.raises(Unsupported):
        said(("Content-Encoding", coding))


def test_identity_is_no_coding() -> None:
    assert said(("Content-Encoding", "Identity")).digests == {}
