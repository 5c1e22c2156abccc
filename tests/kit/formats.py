"""Small disks of each format, made by hand; and by the tools that make real ones."""

import shutil
import struct
import subprocess
from pathlib import Path

MIB = 2**20
GIB = 2**30


def raw(size: int) -> bytes:
    """Bytes that are of no format."""
    return (b"\x01no format at all" * (size // 17 + 1))[:size]


def qcow2(
    size: int = GIB,
    *,
    version: int = 3,
    backing: int = 0,
    features: int = 0,
    cipher: int = 0,
    length: int = 65536,
) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, 16, size, cipher)
    return (head.ljust(72, b"\0") + struct.pack(">Q", features)).ljust(length, b"\0")


def qed() -> bytes:
    return b"QED\0".ljust(65536, b"\0")


DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicSparse"
# Extent description
RW 2048 SPARSE "disk.vmdk"
ddb.adapterType = "ide"
"""

AT_END = 2**64 - 1


def vmdk(
    size: int = MIB,
    *,
    descriptor: str = DESCRIPTOR,
    version: int = 1,
    at: int = 1,
    directory: int = 21,
    length: int = 65536,
    footer: bytes = b"",
) -> bytes:
    head = sparse_header(size, version=version, at=at, directory=directory)
    body = head.ljust(512, b"\0") + descriptor.encode().ljust(20 * 512, b"\0")
    return body.ljust(length, b"\x07") + footer


def sparse_header(size: int, *, version: int = 1, at: int = 1, directory: int = 21) -> bytes:
    return struct.pack("<4sIIQQQQIQQ", b"KDMV", version, 3, size // 512, 128, at, 20, 512, 0,
                       directory)  # fmt: skip


def vmdk_footer(size: int = MIB, *, at: int = 1, kind: int = 3, end: int = 0) -> bytes:
    """A footer's marker, the header once more, the end of the stream."""
    marker = struct.pack("<QII", 1, 0, kind).ljust(512, b"\0")
    end_mark = struct.pack("<QII", 0, 0, end).ljust(512, b"\0")
    return marker + sparse_header(size, at=at).ljust(512, b"\0") + end_mark


def vhd(size: int = GIB, *, kind: int = 3) -> bytes:
    """2: fixed, 3: dynamic, 4: differencing."""
    return vhd_footer(size, kind).ljust(4096, b"\0")


def vhd_footer(size: int, kind: int = 2) -> bytes:
    head = b"conectix".ljust(40, b"\0") + struct.pack(">QQII", size, size, 0, kind)
    return head.ljust(512, b"\0")


METADATA = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
DISK_SIZE = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")


def vhdx(
    size: int = GIB,
    *,
    signature: bytes = b"regi",
    region: bytes = METADATA,
    regions: int = 1,
    at: int = 2 * MIB,
    item: bytes = DISK_SIZE,
    items: int = 1,
    item_length: int = 8,
    length: int = 4 * MIB,
) -> bytes:
    disk = bytearray(length)
    disk[:8] = b"vhdxfile"
    table = struct.pack("<4sIII", signature, 0, regions, 0)
    table += region + struct.pack("<QII", at, MIB, 1)
    disk[192 * 1024 : 192 * 1024 + len(table)] = table
    if at + 65544 <= length:
        known = struct.pack("<8sHH", b"metadata", 0, items).ljust(32, b"\0")
        known += item + struct.pack("<IIII", 65536, item_length, 0, 0)
        disk[at : at + len(known)] = known
        disk[at + 65536 : at + 65544] = struct.pack("<Q", size)
    return bytes(disk)


def vdi(size: int = GIB) -> bytes:
    head = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    head += struct.pack("<I", 0xBEDA107F)
    return (head.ljust(368, b"\0") + struct.pack("<Q", size)).ljust(4096, b"\0")


def iso(blocks: int = 100, *, start: bytes = b"") -> bytes:
    """``start`` lies where a hybrid one has its boot sector."""
    volume = bytearray(2048)
    volume[:7] = b"\x01CD001\x01"
    volume[80:84] = struct.pack("<I", blocks)
    volume[128:130] = struct.pack("<H", 2048)
    return (start.ljust(32768, b"\0") + bytes(volume)).ljust(blocks * 2048, b"\0")


def mbr(*entries: tuple[int, int, int], length: int = 65536) -> bytes:
    """``entries``: boot flag, type, first sector."""
    table = b"".join(
        struct.pack("<B3sB3sII", boot, b"\x00\x02\x00", kind, b"\xff\xff\xff", start, 2048)
        for boot, kind, start in entries
    )
    sector = b"\xeb\x63".ljust(446, b"\x90") + table.ljust(64, b"\0") + b"\x55\xaa"
    return sector.ljust(length, b"\0")


GPT = mbr((0, 0xEE, 1))
PARTITIONED = mbr((0x80, 0x83, 2048))


def luks(version: int = 1, *, payload: int = 4096) -> bytes:
    head = struct.pack(
        ">6sH32s32s32sII", b"LUKS\xba\xbe", version, b"aes", b"xts", b"sha256", payload, 32
    )
    return head.ljust(payload * 512 + MIB, b"\x03")


def qemu_img(*arguments: str, folder: Path) -> None:
    subprocess.run(["qemu-img", *arguments], cwd=folder, check=True, capture_output=True)


HAS_QEMU = shutil.which("qemu-img") is not None
HAS_XORRISO = shutil.which("xorriso") is not None
