"""What is in a body is told by its first bytes and its last ones, whatever they are."""

import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit import formats as f
from tests.kit.formats import GIB, MIB

from tidegate.domain.errors import UnsafeFormat, WrongFormat
from tidegate.settings import ImageFormat
from tidegate.transfer.inspect import HEAD, Inspection

STRICT = ImageFormat()
LENIENT = ImageFormat(require_match=False)


def inspect(
    declared: str, body: bytes, *, block: int = MIB, by: ImageFormat = STRICT
) -> int | None:
    inspection = Inspection(declared, by)
    for at in range(0, len(body), block):
        # the arena's blocks are filled again afterwards
        filled = bytearray(body[at : at + block])
        inspection.feed(memoryview(filled))
        filled[:] = bytes(len(filled))
    return inspection.finish(len(body))


def text_vmdk(kind: str, extent: str = 'RW 2048 SPARSE "disk.vmdk"', pad: int = 0) -> bytes:
    text = f'# Disk DescriptorFile\nversion=1\nCID=1\n{"#" * pad}\ncreateType="{kind}"\n{extent}\n'
    return text.encode()


def descriptor(old: str, new: str) -> str:
    assert old in f.DESCRIPTOR
    return f.DESCRIPTOR.replace(old, new)


STREAM = f.vmdk(directory=f.AT_END, length=3 * MIB, footer=f.vmdk_footer())
FIXED = f.raw(4 * MIB) + f.vhd_footer(4 * MIB)

# of the format that is declared: how large the disk inside is


@pytest.mark.parametrize(
    ("declared", "body", "size"),
    [
        ("qcow2", f.qcow2(3 * GIB), 3 * GIB),
        ("qcow2", f.qcow2(GIB, version=2), GIB),
        ("qcow2", f.qcow2(GIB, features=0b1011), GIB),
        ("qcow2", f.qcow2(0), None),
        ("vmdk", f.vmdk(5 * MIB), 5 * MIB),
        ("vmdk", f.vmdk(descriptor=descriptor("monolithicSparse", "streamOptimized")), MIB),
        ("vmdk", STREAM, MIB),
        ("vhd", f.vhd(2 * GIB), 2 * GIB),
        ("vhd", FIXED, 4 * MIB),
        ("vhd", f.PARTITIONED + f.vhd_footer(65536), 65536),
        ("vhdx", f.vhdx(7 * GIB), 7 * GIB),
        ("vhdx", f.vhdx(GIB, at=9 * MIB, length=20 * MIB), GIB),
        ("vdi", f.vdi(GIB), GIB),
        ("iso", f.iso(100), 204800),
        ("iso", f.iso(100, start=f.PARTITIONED[:512]), 204800),
        ("iso", f.iso(100, start=f.mbr((1, 1, 1))[:512]), 204800),
        ("raw", f.raw(5 * MIB + 3), 5 * MIB + 3),
        ("raw", f.raw(100), 100),
        ("raw", b"", None),
        ("raw", f.PARTITIONED, 65536),
        ("raw", f.GPT, 65536),
        ("raw", f.iso(100), 204800),
        ("raw", f.iso(100, start=f.PARTITIONED[:512]), 204800),
        ("raw", f.luks(), 4096 * 512 + MIB),
        ("raw", b"plain text, and no descriptor of a disk\n" * 9, 360),
        ("ploop", f.raw(MIB), None),
        ("ami", f.raw(MIB), None),
        ("aki", f.mbr(), None),  # a kernel has the mark of a boot sector
        ("gpt", f.GPT, 65536),
        ("luks", f.luks(), MIB),
    ],
)
def test_data_of_the_declared_format_is_measured(
    declared: str, body: bytes, size: int | None
) -> None:
    assert inspect(declared, body) == size


# of another format


@pytest.mark.parametrize(
    ("declared", "body", "found"),
    [
        ("qcow2", f.raw(MIB), "raw"),
        ("qcow2", b"", "raw"),
        ("qcow2", f.vmdk(), "vmdk"),
        ("qcow2", f.qcow2()[:300], "malformed qcow2"),
        ("vmdk", f.raw(MIB), "raw"),
        ("vmdk", f.qcow2(), "qcow2"),
        ("vmdk", f.vmdk(at=2), "malformed vmdk"),
        ("vmdk", f.vmdk(version=9), "malformed vmdk"),
        ("vmdk", b"COWD".ljust(4096, b"\0"), "malformed vmdk"),
        ("vmdk", f.vmdk()[:700], "cut-off vmdk"),
        ("vhd", f.raw(MIB), "raw"),
        ("vhd", f.qcow2(), "qcow2"),
        ("vhd", f.vhd()[:300], "cut-off vhd"),
        ("vhd", f.raw(MIB) + f.vhd_footer(MIB, kind=3), "raw"),
        ("vhdx", f.raw(MIB), "raw"),
        ("vhdx", f.vhdx()[:MIB], "cut-off vhdx"),
        ("vhdx", f.vhdx(signature=b"rege"), "malformed vhdx"),
        ("vhdx", f.vhdx(regions=2048), "malformed vhdx"),
        ("vhdx", f.vhdx(region=bytes(16)), "malformed vhdx"),
        ("vhdx", f.vhdx(item=bytes(16)), "malformed vhdx"),
        ("vhdx", f.vhdx(item_length=4), "malformed vhdx"),
        ("vhdx", f.vhdx(at=2**63, length=HEAD + 2 * MIB), "malformed vhdx"),
        ("vhdx", f.vhdx(at=MIB)[: MIB + 10], "cut-off vhdx"),
        ("vdi", f.raw(MIB), "raw"),
        ("iso", f.raw(MIB), "raw"),
        ("iso", f.qcow2(length=32768) + f.iso()[32768:], "iso and qcow2"),
        ("raw", f.qcow2(), "qcow2"),
        ("raw", f.qcow2(backing=512), "qcow2"),
        ("raw", f.qcow2()[:300], "malformed qcow2"),
        ("raw", f.qed(), "qed"),
        ("raw", f.vmdk(), "vmdk"),
        ("raw", f.vmdk(at=2), "malformed vmdk"),
        ("raw", text_vmdk("monolithicFlat"), "vmdk"),
        ("raw", text_vmdk("monolithicFlat", pad=100_000), "vmdk"),
        ("raw", f.vhd(), "vhd"),
        ("raw", f.vhdx(), "vhdx"),
        ("raw", f.vdi(), "vdi"),
        ("raw", f.luks()[:32768] + f.iso()[32768:], "iso and luks"),
        ("ploop", f.qcow2(), "qcow2"),
        ("ploop", f.PARTITIONED, "gpt"),
        ("ami", f.qcow2(), "qcow2"),
        ("gpt", f.raw(MIB), "raw"),
    ],
)
def test_data_of_another_format_is_refused(declared: str, body: bytes, found: str) -> None:
    with pytest.raises(WrongFormat) as refused:
        inspect(declared, body)
    assert refused.value.message == (
        f"The image's disk_format is {declared}, but its data is {found}."
    )


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        ("qcow2", f.raw(MIB)),
        ("qcow2", f.vmdk()),
        ("raw", f.qcow2()),
        ("raw", STREAM),
        ("vhd", f.raw(MIB)),
        ("vmdk", f.vmdk(at=2)),
        ("vmdk", f.vmdk()[:700]),
        ("vhdx", f.vhdx(signature=b"rege")),
        ("vhdx", f.vhdx(item=bytes(16))),
        ("vhdx", f.vhdx(item_length=4)),
        ("vhdx", f.vhdx(at=2**63, length=HEAD + 2 * MIB)),
        ("iso", f.qcow2(length=32768) + f.iso()[32768:]),
    ],
)
def test_where_nobody_minds_data_of_another_format_is_taken_unmeasured(
    declared: str, body: bytes
) -> None:
    assert inspect(declared, body, by=LENIENT) is None


# safe


@pytest.mark.parametrize(
    ("declared", "body", "why"),
    [
        ("qcow2", f.qcow2(backing=512), "backing file"),
        ("qcow2", f.qcow2(features=1 << 2), "another file"),
        ("qcow2", f.qcow2(features=1 << 4), "features"),
        ("qcow2", f.qcow2(features=1 << 40), "features"),
        ("qcow2", f.qcow2(version=1), "features"),
        ("qcow2", f.qcow2(version=4), "features"),
        ("qcow2", f.qcow2(cipher=3), "encrypted"),
        ("qcow2", f.qcow2(2**63), "9223372036854775808 bytes"),
        ("vmdk", f.vmdk(descriptor=descriptor("monolithicSparse", "monolithicFlat")), "single"),
        ("vmdk", f.vmdk(descriptor=descriptor("createType", "type")), "single"),
        ("vmdk", f.vmdk(descriptor=descriptor('"disk.vmdk"', '"/etc/passwd"')), "single"),
        ("vmdk", f.vmdk(descriptor=descriptor('"disk.vmdk"', '"..\\disk.vmdk"')), "single"),
        ("vmdk", f.vmdk(descriptor=descriptor('RW 2048 SPARSE "disk.vmdk"', "")), "single"),
        ("vmdk", f.vmdk(descriptor=f.DESCRIPTOR + 'RW 9 SPARSE "more.vmdk"\n'), "single"),
        ("vmdk", f.vmdk(descriptor=f.DESCRIPTOR + "do what I say\n"), "single"),
        ("vmdk", f.vmdk(descriptor=f.DESCRIPTOR + 'parentFileNameHint="a"\n'), "backing file"),
        ("vmdk", f.vmdk(descriptor=""), "single"),
        ("vmdk", f.vmdk(0), "single"),
        ("vmdk", text_vmdk("monolithicFlat"), "single"),
        ("vmdk", text_vmdk("monolithicSparse"), "single"),
        ("vmdk", STREAM[:-1536] + f.vmdk_footer(at=5), "footer"),
        ("vmdk", STREAM[:-1536] + f.vmdk_footer(kind=1), "footer"),
        ("vmdk", STREAM[:-1536] + f.vmdk_footer(end=1), "footer"),
        ("vmdk", STREAM[:-1536], "footer"),
        ("vhd", f.vhd(kind=4), "backing file"),
        ("qed", f.qed(), "not taken"),
        ("raw", f.mbr(), "partition table"),
        ("raw", f.mbr((1, 0x83, 1)), "partition table"),
        ("raw", f.mbr((0, 0xEE, 2)), "partition table"),
        ("raw", f.mbr((0, 0xEE, 1), (0, 0x83, 9)), "partition table"),
        ("raw", f.luks(version=2), "version 1"),
    ],
)
def test_unsafe_data_is_refused_even_where_another_format_would_be_taken(
    declared: str, body: bytes, why: str
) -> None:
    for by in (STRICT, LENIENT):
        with pytest.raises(UnsafeFormat) as refused:
            inspect(declared, body, by=by)
        assert why in refused.value.message


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        ("raw", f.qcow2(backing=512)),
        ("vhd", f.mbr()),
        ("vmdk", f.qcow2(features=4)),
        ("raw", text_vmdk("vmfs")),
    ],
)
def test_data_of_a_tolerated_format_must_be_safe_as_well(declared: str, body: bytes) -> None:
    with pytest.raises(UnsafeFormat):
        inspect(declared, body, by=LENIENT)


def test_a_check_of_partitions_can_be_waived() -> None:
    waived = ImageFormat(gpt_safety_checks_nonfatal=("mbr",))
    assert inspect("raw", f.mbr(), by=waived) == 65536


@pytest.mark.parametrize("cipher", [1, 2])
@pytest.mark.parametrize("version", [2, 3])
def test_sec_20_encrypted_qcow2_is_taken_unless_it_is_not_wanted(cipher: int, version: int) -> None:
    body = f.qcow2(cipher=cipher, version=version)
    assert inspect("qcow2", body) == GIB
    for match in (True, False):
        with pytest.raises(UnsafeFormat, match="encrypted"):
            inspect("qcow2", body, by=ImageFormat(encrypted=False, require_match=match))
    assert inspect("qcow2", f.qcow2(), by=ImageFormat(encrypted=False)) == GIB


def test_sec_24_the_disk_inside_has_a_limit() -> None:
    at_most = ImageFormat(max_virtual_size=GIB)
    for declared, disk in (("qcow2", f.qcow2), ("vdi", f.vdi), ("vhdx", f.vhdx)):
        assert inspect(declared, disk(GIB), by=at_most) == GIB
        with pytest.raises(UnsafeFormat, match=f"{GIB + 512} bytes"):
            inspect(declared, disk(GIB + 512), by=at_most)


# as soon as it is known


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        ("qcow2", f.raw(MIB)),
        ("qcow2", f.qcow2(backing=512, length=MIB)),
        ("raw", f.qcow2(length=MIB)),
        ("vhd", f.qcow2(length=MIB)),
        ("vmdk", f.vmdk(descriptor=descriptor("Sparse", "Flat"), length=MIB)),
        ("vmdk", f.vmdk(descriptor="", directory=f.AT_END, length=MIB)),
        ("vhdx", f.vhdx(region=bytes(16))[:MIB]),
    ],
)
def test_what_the_first_block_shows_is_refused_there(declared: str, body: bytes) -> None:
    with pytest.raises((WrongFormat, UnsafeFormat)):
        Inspection(declared, STRICT).feed(memoryview(body))


def test_a_format_that_never_tells_is_given_up() -> None:
    inspection = Inspection("vhdx", STRICT)
    inspection.feed(memoryview(f.vhdx(at=2**40, length=MIB)))
    block = memoryview(bytes(MIB))
    for _ in range(HEAD // MIB - 2):
        inspection.feed(block)
    with pytest.raises(WrongFormat):
        inspection.feed(block)


# whatever the blocks, and whatever the bytes

SEEDS = [
    ("qcow2", f.qcow2(length=4096)),
    ("vmdk", f.vmdk(length=12_000)),
    ("vmdk", f.vmdk(directory=f.AT_END, length=70_000, footer=f.vmdk_footer())),
    ("vhd", f.vhd()),
    ("vhd", f.raw(1000) + f.vhd_footer(1000)),
    ("vhdx", f.vhdx(at=MIB, length=MIB + 65536 + 4096)),
    ("vdi", f.vdi()),
    ("iso", f.iso(20)),
    ("raw", f.GPT),
    ("raw", f.luks(payload=2)),
    ("raw", text_vmdk("monolithicSparse")),
]


def verdict(declared: str, body: bytes, **how: Any) -> object:
    try:
        return inspect(declared, body, **how)
    except (WrongFormat, UnsafeFormat) as refused:
        return refused.message


@pytest.mark.parametrize(("declared", "body"), SEEDS[:-1])
@pytest.mark.parametrize("block", [4093, 65536, 300_000])
def test_the_verdict_does_not_hang_on_the_blocks(declared: str, body: bytes, block: int) -> None:
    assert verdict(declared, body, block=block) == verdict(declared, body)


_NUMBERS = st.sampled_from([0, 1, 2, 0x7F, 0xFF, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
_EDITS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 600), st.integers(0, 3 * MIB)),
        st.one_of(
            st.binary(min_size=1, max_size=16),
            _NUMBERS.map(lambda number: struct.pack("<Q", number)),
            _NUMBERS.map(lambda number: struct.pack(">Q", number)),
        ),
    ),
    max_size=6,
)


@given(
    seed=st.sampled_from(SEEDS),
    declared=st.sampled_from([*STRICT.disk_formats, "gpt", "luks", "qed"]),
    as_made=st.booleans(),
    edits=_EDITS,
    cut=st.one_of(st.none(), st.integers(0, 70_000)),
    by=st.sampled_from([STRICT, LENIENT]),
)
@settings(max_examples=400, deadline=None)
def test_no_body_breaks_an_inspection(
    seed: tuple[str, bytes],
    declared: str,
    as_made: bool,
    edits: Sequence[tuple[int, bytes]],
    cut: int | None,
    by: ImageFormat,
) -> None:
    body = bytearray(seed[1])
    for at, new in edits:
        at %= len(body)
        body[at : at + len(new)] = new[: len(body) - at]
    found = verdict(seed[0] if as_made else declared, bytes(body[:cut]), by=by)
    assert found is None or isinstance(found, str) or 0 < found < 2**63  # type: ignore[operator]


@pytest.mark.parametrize(
    "body",
    [
        f.vhdx(region=bytes(16), regions=2047),
        f.vhdx(item=bytes(16), items=2047, at=MIB),
        f.vhdx(at=2**62, regions=1),
        f.vmdk(directory=f.AT_END, length=MIB),
        (b"#" * 79 + b"\n") * 13107,
    ],
    ids=["regions", "items", "far", "footer", "text"],
)
@pytest.mark.parametrize("declared", ["vhdx", "vmdk", "raw"])
def test_a_long_hostile_body_costs_no_more_than_a_short_one(declared: str, body: bytes) -> None:
    inspection = Inspection(declared, LENIENT)
    block, begun = memoryview(bytes(MIB)), time.thread_time()
    try:
        for at in range(0, len(body), MIB):
            inspection.feed(memoryview(body)[at : at + MIB])
        for _ in range(1024):
            inspection.feed(block)
        inspection.finish(GIB)
    except UnsafeFormat:
        pass
    assert time.thread_time() - begun < 0.25


# real ones


def by_qemu(*arguments: str) -> Callable[[Path], None]:
    return lambda folder: f.qemu_img(*arguments, folder=folder)


@pytest.mark.skipif(not f.HAS_QEMU, reason="qemu-img is not installed")
@pytest.mark.parametrize(
    ("declared", "kind", "options"),
    [
        ("qcow2", "qcow2", "compat=0.10"),
        ("qcow2", "qcow2", "compat=1.1,lazy_refcounts=on"),
        ("vmdk", "vmdk", "subformat=monolithicSparse"),
        ("vmdk", "vmdk", "subformat=streamOptimized"),
        ("vhd", "vpc", "subformat=dynamic,force_size=on"),
        ("vhd", "vpc", "subformat=fixed,force_size=on"),
        ("vhdx", "vhdx", "subformat=dynamic"),
        ("vhdx", "vhdx", "subformat=dynamic,block_size=1M"),
        ("vdi", "vdi", "static=off"),
        ("ploop", "parallels", ""),
    ],
)
def test_what_qemu_makes_is_taken_and_its_size_known(
    tmp_path: Path, declared: str, kind: str, options: str
) -> None:
    (tmp_path / "raw").write_bytes(f.raw(3 * MIB))
    given_options = ["-o", options] if options else []
    f.qemu_img("convert", "-f", "raw", "-O", kind, *given_options, "raw", "disk", folder=tmp_path)
    size = inspect(declared, (tmp_path / "disk").read_bytes())
    assert size == (None if declared == "ploop" else 3 * MIB)


@pytest.mark.skipif(not f.HAS_QEMU, reason="qemu-img is not installed")
@pytest.mark.parametrize(
    ("declared", "arguments"),
    [
        ("qcow2", ["-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "disk"]),
        ("qcow2", ["-f", "qcow2", "-o", "data_file=outside", "disk", "1M"]),
        ("qcow2", ["-f", "qcow2", "-o", "extended_l2=on", "disk", "1M"]),
        ("vmdk", ["-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "disk"]),
        ("vmdk", ["-f", "vmdk", "-o", "subformat=monolithicFlat", "disk", "1M"]),
        ("vmdk", ["-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "disk", "1M"]),
    ],
)
def test_what_qemu_makes_to_point_elsewhere_is_refused(
    tmp_path: Path, declared: str, arguments: list[str]
) -> None:
    for kind in ("qcow2", "vmdk"):
        f.qemu_img("create", "-f", kind, f"base.{kind}", "1M", folder=tmp_path)
    f.qemu_img("create", *arguments, folder=tmp_path)
    with pytest.raises(UnsafeFormat):
        inspect(declared, (tmp_path / "disk").read_bytes())


@pytest.mark.skipif(not f.HAS_XORRISO, reason="xorriso is not installed")
def test_an_iso_of_xorriso_is_one(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "hello").write_text("hello")
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-o", "disk.iso", "files"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    body = (tmp_path / "disk.iso").read_bytes()
    assert inspect("iso", body) == len(body)
    with pytest.raises(WrongFormat):
        inspect("qcow2", body)
