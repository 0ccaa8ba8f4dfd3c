"""Text in any encoding and with any line ends, as the readers want it: UTF-8 and line feeds.

Almost every file is that already, and is read where it lies. Any other is written anew into the
spool, line for line, so that the numbers of the lines stay.
"""

import codecs
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mf_core.errors import InputError
from mf_core.sources.spool import Spool, write_all

_SAMPLE_BYTES = 1 << 16
_COPY_CHARACTERS = 1 << 20
# The longer ones first: that of UTF-16 is the beginning of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UTF_8 = codecs.lookup("utf-8").name
"""What Python calls it, however it is spelt."""

# Every other byte of such a text is NUL where it is in a Latin script.
_WIDE_SHARE = 0.2


@contextmanager
def plain_text(
    path: Path, name: str, encoding: str, spool: Spool, count: Callable[[int], None]
) -> Iterator[Path]:
    """Give the path of a text in UTF-8 whose lines end with a line feed.

    What can't be decoded is broken in the copy as well, so that its line is a bad row. `count` is
    told the bytes of what is written.

    Raises:
        InputError: it looks like UTF-16, and nothing says which.
        TooLargeError: the copy is larger than the limits allow.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    found = marked_encoding(sample) or encoding
    is_plain = codecs.lookup(found).name == UTF_8
    if is_plain:
        _refuse_wide(sample, name)
    if is_plain and not (b"\r" in sample and b"\n" not in sample):
        yield path
        return

    copy = spool.new_path("text")
    try:
        with path.open("rb") as reader, copy.open("wb", buffering=0) as writer:
            try:
                _write_plain(reader, writer, found, spool, count)
            except UnicodeError as error:
                raise InputError(
                    f"{name}: expected text in {found} (source.encoding), but {error}. Without a "
                    "byte order mark, UTF-16 is utf-16-le (from Windows) or utf-16-be."
                ) from None
        yield copy
    finally:
        # There may be thousands of parts.
        copy.unlink(missing_ok=True)


def marked_encoding(data: bytes) -> str:
    """Return the encoding that a byte order mark at the beginning says, "" if there is none."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), "")


def _write_plain(
    reader: BinaryIO, writer: BinaryIO, found: str, spool: Spool, count: Callable[[int], None]
) -> None:
    """Copy a text as UTF-8 with line feeds."""
    text = io.TextIOWrapper(reader, encoding=found, errors=_BROKEN, newline=None)
    while block := text.read(_COPY_CHARACTERS):
        # Half of a pair stays what it is: no UTF-8.
        data = block.encode("utf-8", errors="surrogatepass")
        count(len(data))
        with spool.writing():
            write_all(writer, data)
    text.detach()


def _broken(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for bytes that can't be decoded: what no UTF-8 may hold."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udc80", error.end


_BROKEN = "mf-broken"
codecs.register_error(_BROKEN, _broken)


def _refuse_wide(sample: bytes, name: str) -> None:
    """Raise InputError if a text holds so many NULs that its characters have several bytes."""
    if sample.count(b"\0") > _WIDE_SHARE * len(sample):
        raise InputError(
            f"{name}: expected UTF-8 text, got something that looks like UTF-16 without a byte "
            "order mark, or no text. Set source.encoding (utf-16-le from Windows), or save the "
            "file as UTF-8."
        )
