"""The format of a body, seen in passing: is it what the image says, and is it safe to keep?

The library's inspectors know the formats; here they are fed the first bytes and the last ones only,
those that a format's marks can stand in, so a long body costs no more than a short one. Whatever an
inspector makes of a hostile body, an error of its own too, is a verdict on the body.
"""

import logging

from oslo_utils.imageutils import format_inspector
from oslo_utils.imageutils.format_inspector import (
    ALL_FORMATS,
    EndCaptureRegion,
    FileInspector,
    QcowInspector,
    SafetyCheckFailed,
    SafetyViolation,
    VHDInspector,
    VHDXInspector,
    VMDKInspector,
)

from tidegate.domain.errors import UnsafeFormat, WrongFormat
from tidegate.settings import ImageFormat

FIRST = 64 * 2**10
"""Bytes by which it is known of which formats a body is; an ISO's mark ends at 34 KiB."""

HEAD = 16 * 2**20
"""Bytes by which a format must have told all but what stands at its end."""

TAIL = 1536
"""Bytes at the end that count: a VMDK's footer; a VHD's is shorter."""

LARGEST = 2**63 - 1

_INSIDE_RAW = frozenset({"gpt", "iso", "luks"})
"""What a raw disk may hold: partitions, a bootable ISO, an encrypted volume. Raw bytes of any other
format would be opened as that by whoever guesses it."""

_BOOTABLE = frozenset({"aki", "ari", "ami"})
"""Opaque to us; a Linux kernel has the mark of a boot sector."""

_COUNTED = frozenset({"gpt", "luks"})
"""Formats whose inspectors take the bytes they have seen for all there are."""

_MAGIC = {b"QFI\xfb": "qcow2", b"QED\0": "qed", b"KDMV": "vmdk", b"COWD": "vmdk"}
_CIPHERS = {b"\0\0\0\0": False, b"\0\0\0\1": True, b"\0\0\0\2": True}
"""What a qcow2 says of its encryption, and whether there is any: none, AES, LUKS."""

_FIXED, _DIFFERENCING = b"\0\0\0\2", b"\0\0\0\4"
_ACCESS = frozenset({"rw", "rdonly", "noaccess"})

_WORDS = {
    "backing_file": "it names a backing file",
    "data_file": "it keeps its data in another file",
    "unknown_features": "it needs features that are not known to be safe",
    "descriptor": "its descriptor is not the one of a disk in a single file",
    "footer": "its footer differs from its header",
    "mbr": "its partition table is malformed",
    "banned": "this format is not taken",
    "encryption": "it is encrypted, which is not taken",
    "version": "only version 1 is taken",
}

# it would repeat lines of hostile bodies
logging.getLogger(format_inspector.__name__).disabled = True


class Inspection:
    """One body of an image whose ``disk_format`` is ``declared``. ``feed`` and ``finish`` raise
    WrongFormat or UnsafeFormat, as soon as it is known."""

    def __init__(self, declared: str, settings: ImageFormat) -> None:
        self._declared = declared
        self._settings = settings
        self._first: bytearray | None = bytearray()
        self._fed = 0
        self._found: list[FileInspector] = []
        self._matches = True
        self._reading: list[FileInspector] = []  # they have not seen enough
        self._waiting: list[FileInspector] = []  # for the end alone
        self._fixed_vhd = False
        self._tail: bytes | None = None

    def feed(self, data: memoryview) -> None:
        """The bytes that come next; they may change afterwards."""
        if self._first is not None:
            if self._first or len(data) < FIRST:
                self._first += data
                if len(self._first) < FIRST:
                    return
                data = memoryview(bytes(self._first))
            self._begin(data)
        else:
            self._go_on(data)

    def finish(self, size: int) -> int | None:
        """The body is at its end, after ``size`` bytes: how large the disk inside is, in bytes."""
        if self._first is not None:
            self._begin(memoryview(bytes(self._first)))
        if self._fixed_vhd:
            self._look_at_footer()
        for inspector in (*self._reading, *self._waiting):
            self._end(inspector)
        if not self._matches:
            return None
        if self._declared == "raw":
            return size or None
        return self._virtual_size(size) if self._found else None

    def _begin(self, data: memoryview) -> None:
        self._first = None
        named = _MAGIC.get(bytes(data[:4]))
        self._found = _recognised(data)
        self._fed = FIRST
        names = {inspector.NAME for inspector in self._found}
        if "iso" in names or self._declared in _BOOTABLE:
            names.discard("gpt")
            self._found = [one for one in self._found if one.NAME in names]
        if self._declared == "vhd" and names <= _INSIDE_RAW:
            self._fixed_vhd = True
            self._tail = bytes(data[-TAIL:])
            return
        if named is not None and named not in names:
            self._refuse(f"malformed {named}")
        elif not self._is_declared(names):
            self._refuse(" and ".join(sorted(names)) or "raw")
        self._settle(self._found)
        self._go_on(data[FIRST:])

    def _is_declared(self, names: set[str]) -> bool:
        if self._declared == "raw":
            return len(names) <= 1 and names <= _INSIDE_RAW
        return names == ({self._declared} if self._declared in ALL_FORMATS else set())

    def _go_on(self, data: memoryview) -> None:
        if self._tail is not None:
            ending = data[-TAIL:]
            self._tail = bytes(ending) if len(ending) == TAIL else (self._tail + ending)[-TAIL:]
        if not self._reading:
            return
        self._fed += len(data)
        self._settle([one for one in self._reading if self._eats(one, data)])
        if self._reading and self._fed >= HEAD:
            self._refuse(f"malformed {self._reading[0].NAME}")
            self._reading = []

    def _settle(self, inspectors: list[FileInspector]) -> None:
        """Judge those that know all; the others read on, or wait for the end."""
        self._reading = []
        for inspector in inspectors:
            if inspector.complete:
                self._judge(inspector)
            elif _waits_for_the_end(inspector):
                self._look_inside(inspector)
                self._waiting.append(inspector)
                self._tail = b""
            else:
                self._reading.append(inspector)

    def _end(self, inspector: FileInspector) -> None:
        if self._tail and not self._eats(inspector, memoryview(self._tail)):
            return
        inspector.finish()
        if inspector.complete:
            self._judge(inspector)
        else:
            self._refuse(f"cut-off {inspector.NAME}")

    def _eats(self, inspector: FileInspector, data: memoryview) -> bool:
        try:
            inspector.eat_chunk(data)  # type: ignore[arg-type]
        except Exception as error:
            self._refuse(f"malformed {inspector.NAME}", error)
            return False
        return True

    def _judge(self, inspector: FileInspector) -> None:
        try:
            self._look_inside(inspector)
            inspector.safety_check()
        except (WrongFormat, UnsafeFormat):
            raise
        except SafetyCheckFailed as error:
            failed = set(error.failures)
            if inspector.NAME == "gpt":
                failed -= set(self._settings.gpt_safety_checks_nonfatal)
            if failed:
                raise _unsafe(inspector, min(failed)) from error
        except Exception as error:
            self._refuse(f"malformed {inspector.NAME}", error)

    def _look_inside(self, inspector: FileInspector) -> None:
        """What the library lets pass: a qcow2 in a cipher that there is not, or in any where none
        is wanted; a VMDK that is text alone, names a parent, or has no
        capacity, so that its data lies where its descriptor says; a VHD that has a parent; a VHDX
        without metadata."""
        if isinstance(inspector, QcowInspector):
            encrypted = _CIPHERS.get(bytes(inspector.region("header").data[32:36]))
            if encrypted is None or (encrypted and not self._settings.encrypted):
                raise _unsafe(inspector, "encryption")
        elif isinstance(inspector, VHDInspector):
            if inspector.region("header").data[60:64] == _DIFFERENCING:
                raise _unsafe(inspector, "backing_file")
        elif isinstance(inspector, VHDXInspector):
            if not inspector.has_region("vds"):
                self._refuse("malformed vhdx")
        elif isinstance(inspector, VMDKInspector):
            try:
                inspector.check_descriptor()
            except SafetyViolation as error:
                raise _unsafe(inspector, "descriptor") from error
            lines = [line.strip() for line in (inspector.desc_text or "").split("\n")]
            if any(line.startswith("parentfilenamehint") for line in lines):
                raise _unsafe(inspector, "backing_file")
            extents = [line for line in lines if line.split(" ")[0] in _ACCESS]
            alone = inspector.has_region("header") and inspector.virtual_size > 0
            if not alone or len(extents) != 1 or "\\" in extents[0]:
                raise _unsafe(inspector, "descriptor")

    def _look_at_footer(self) -> None:
        footer = (self._tail or b"")[-512:]
        inspector = VHDInspector()
        inspector.eat_chunk(footer)
        if inspector.complete and inspector.format_match and footer[60:64] == _FIXED:
            self._found = [inspector]
        else:
            self._refuse(" and ".join(sorted(one.NAME for one in self._found)) or "raw")
            self._settle(self._found)

    def _virtual_size(self, size: int) -> int | None:
        (inspector,) = self._found
        try:
            found = inspector.virtual_size
        except Exception as error:
            self._refuse(f"malformed {inspector.NAME}", error)
            return None
        if inspector.NAME in _COUNTED:
            found += size - inspector.actual_size
        largest = self._settings.max_virtual_size
        if found > (LARGEST if largest < 0 else min(largest, LARGEST)):
            raise UnsafeFormat(f"The {inspector.NAME} data says that its disk has {found} bytes.")
        return found if found > 0 else None

    def _refuse(self, found: str, error: Exception | None = None) -> None:
        """WrongFormat, unless nobody minds."""
        self._matches = False
        if self._settings.require_match:
            raise WrongFormat(self._declared, found) from error


def _recognised(data: memoryview) -> list[FileInspector]:
    start = bytes(data[:512])
    is_text = start.isascii() and b"\0" not in start
    found = []
    for name, kind in ALL_FORMATS.items():
        if name == "raw":
            continue
        inspector = kind()
        try:
            # a VMDK may be a text, whose mark stands anywhere in it
            first = data if is_text and name == "vmdk" else data[:FIRST]
            inspector.eat_chunk(first)  # type: ignore[arg-type]
            if inspector.format_match:
                found.append(inspector)
        except Exception:  # noqa: S112
            continue  # not of this format
    return found


def _waits_for_the_end(inspector: FileInspector) -> bool:
    regions = map(inspector.region, inspector.context_info)
    return all(one.complete or isinstance(one, EndCaptureRegion) for one in regions)


def _unsafe(inspector: FileInspector, check: str) -> UnsafeFormat:
    return UnsafeFormat(
        f"The {inspector.NAME} data is not safe to use: {_WORDS.get(check, check)}."
    )
