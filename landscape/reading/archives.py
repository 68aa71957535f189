"""Zip-format `.pt` files, accepted only when every one of their bits is accounted for.

`torch.load` checks no checksum and most of a zip archive's headers are redundant, so nearly every flipped bit
in a `.pt` goes unnoticed. PyTorch's writer (caffe2/serialize/inline_container.cc on miniz) leaves no freedom,
though: entries follow each other without gaps, are stored uncompressed, and every header field is either a
constant or repeats a name, size, offset or CRC-32. So the structure is rebuilt from those few facts and
compared byte by byte. Layouts: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5.
"""

import io
import struct
import zipfile
import zlib

from landscape.errors import InputError

_FIELD_LIMIT = 0xFFFFFFFF
_SMALL_LIMIT = 0xFFFF
_TAIL = 56 + 20 + 22
_HAS_DESCRIPTOR, _UTF8 = 0x8, 0x800


class _DamagedError(Exception):
    """Where the archive differs from what PyTorch writes."""


def entries(content: bytes, path: object) -> dict[str, memoryview]:
    """The files in a zip written by `torch.save`, by name without the archive's own folder.

    Raises `InputError` when a single bit is not what PyTorch's writer would have put there (compressed
    entries, gaps and trailing bytes included), and when the file was saved without checksums.
    """
    try:
        found = _entries(content)
    except (_DamagedError, struct.error, UnicodeDecodeError) as error:
        reason = error if isinstance(error, _DamagedError) else "its headers make no sense"
        raise InputError(
            f"{path} is truncated or damaged ({reason}): it is not, bit for bit, what torch.save writes. "
            "Restore it from a copy, or load it in torch and save it again with torch.save."
        ) from None
    folders = {name.partition("/")[0] for name in found}
    if len(folders) != 1:
        raise InputError(f"{path} is damaged: its entries lie in several folders. Restore it from a copy.")
    return {name.partition("/")[2]: data for name, data in found.items()}


def names(content: bytes) -> list[str]:
    """The names in any zip archive, unchecked: good for telling what kind of file this is, and no more."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.namelist()
    except Exception:  # a damaged directory can raise nearly anything in zipfile
        return []


def _entries(content: bytes) -> dict[str, memoryview]:
    view = memoryview(content)
    start, size, count = _directory(view)
    cursor, position = start, 0
    found: dict[str, memoryview] = {}
    checksums: dict[str, int] = {}
    lowered: set[str] = set()
    for _ in range(count):
        name, crc, length, cursor = _central_header(view, cursor, position)
        data, position = _local_entry(view, position, name, crc, length)
        text = name.decode()
        if text.lower() in lowered:  # torch looks names up without regard to case
            raise _DamagedError(f"two entries are called {text}")
        lowered.add(text.lower())
        found[text], checksums[text] = data, crc
    if (position, cursor) != (start, start + size):
        raise _DamagedError("bytes between or after its entries")
    if not any(checksums.values()):
        raise _DamagedError("it was saved without checksums, see torch.serialization.set_crc32_options")
    for text, data in found.items():
        if zlib.crc32(data) != checksums[text]:
            raise _DamagedError(f"the checksum of {text} does not match")
    return found


def _directory(view: memoryview) -> tuple[int, int, int]:
    """Offset, size and number of entries of the central directory, from the three records at the end."""
    base = len(view) - _TAIL
    if base < 0:
        raise _DamagedError("its end is missing")
    count, size, start = struct.unpack_from("<32xQQQ", view, base)
    expected = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0x31E, 45, 0, 0, count, count, size, start)
    expected += struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
    few = min(count, _SMALL_LIMIT)
    limits = (few, few, min(size, _FIELD_LIMIT), min(start, _FIELD_LIMIT))
    expected += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *limits, 0)
    if view[base:] != expected or start + size != base:
        raise _DamagedError("its end is not that of a zip archive written by PyTorch")
    return start, size, count


def _central_header(view: memoryview, cursor: int, position: int) -> tuple[bytes, int, int, int]:
    """Name, CRC-32, size and the next cursor of the directory's entry for the data at `position`."""
    crc, _, length, name_length, extra_length = struct.unpack_from("<16xIIIHH", view, cursor)
    name = bytes(view[cursor + 46 : cursor + 46 + name_length])
    if length == _FIELD_LIMIT:
        length = struct.unpack_from("<Q", view, cursor + 46 + name_length + 4)[0]
    sizes = (length, length) if length >= _FIELD_LIMIT else ()
    extra = _zip64((*sizes, position) if position >= _FIELD_LIMIT else sizes)
    shown = min(length, _FIELD_LIMIT)
    expected = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 0, 0, _flags(length), 0, 0, 0, crc, shown, shown,
        len(name), len(extra), 0, 0, 0, 0, min(position, _FIELD_LIMIT),
    )  # fmt: skip
    expected += name + extra
    end = cursor + len(expected)
    if extra_length != len(extra) or view[cursor:end] != expected:
        raise _DamagedError(f"directory entry of the data at byte {position}")
    return name, crc, length, end


def _local_entry(view: memoryview, position: int, name: bytes, crc: int, length: int) -> tuple[memoryview, int]:
    """The data of the entry at `position` and the position after it."""
    (extra_length,) = struct.unpack_from("<28xH", view, position)
    # The compressed size is not known yet when PyTorch writes this field, and stays 0.
    sizes = (length, 0) if length >= _FIELD_LIMIT else ()
    extra = _zip64((*sizes, position) if position >= _FIELD_LIMIT else sizes)
    padding = extra_length - len(extra) - 4
    if padding < 0:
        raise _DamagedError(f"header at byte {position}")
    header = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", 0, _flags(length), 0, 0, 0, 0, 0, 0, len(name), extra_length
    )  # fmt: skip
    header += name + extra + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    start = position + len(header)
    end = start + length
    descriptor = b""
    if length:
        wide = "<4sIQQ" if extra else "<4sIII"
        descriptor = struct.pack(wide, b"PK\7\10", crc, length, length)
    if view[position:start] != header or view[end : end + len(descriptor)] != descriptor:
        raise _DamagedError(f"header at byte {position}")
    return view[start:end], end + len(descriptor)


def _flags(length: int) -> int:
    return _UTF8 | (_HAS_DESCRIPTOR if length else 0)


def _zip64(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
