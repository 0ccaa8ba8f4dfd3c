"""Files that can be read here, and what is packed in them."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mf_core.errors import InputError
from mf_core.redaction import redacted
from mf_core.sources.chunks import printable
from mf_core.sources.contents import (
    ZIP_MAGIC,
    Packing,
    foreign_kind,
    foreign_zip,
    head_of,
    packing_of,
)
from mf_core.sources.formats import unpacked_name
from mf_core.sources.known import ReadAllError
from mf_core.sources.opening import Identity, opened
from mf_core.sources.reach import Permit
from mf_core.sources.spool import Spool

_ENCRYPTED_FLAG = 1


@dataclass(frozen=True)
class LocalFile:
    """A file that can be read here.

    Attributes:
        path: where it is.
        name: its name as if it were not packed, for messages and for what depends on the name; one
            of several has the path of its folder before it.
        sha256: the checksum of its (unpacked) content.
        packed_sha256: the checksum of the file that it came in.
        permit: what it was judged by; None for a file in the spool.
        identity: which file it is; None for a file in the spool.
        place: its path where it came from, whose folders may give columns to its rows; of a query,
            its hash.
        stamp: what tells without a look into it that it is the same; None: nothing does.
        is_absent: it was loaded before, and was not fetched.
        watermark: of a query's result, the largest value of its watermark column.
        is_partial: it has only the rows since an earlier watermark.
    """

    path: Path
    name: str
    sha256: str
    packed_sha256: str
    permit: Permit | None = None
    identity: Identity | None = None
    place: str = ""
    stamp: str | None = None
    is_absent: bool = False
    watermark: str | None = None
    is_partial: bool = False

    @contextmanager
    def reading(self) -> Iterator[Path]:
        """Give a path to read the file by, which leads to the very file that was judged.

        Raises:
            InputError: another file has come in its place.
            ReadAllError: it was not fetched.
        """
        if self.is_absent:
            raise ReadAllError(f"{self.name} was not fetched, and has to be read")
        if self.permit is None:
            yield self.path
        else:
            with opened(self.path, self.permit, self.identity) as path:
                yield path


def unpacked(file: LocalFile, spool: Spool) -> LocalFile:
    """Return `file` itself, or what it holds if it is packed.

    Raises:
        InputError: it is of a kind that is known and not read, such as an HTML page.
    """
    with file.reading() as path:
        head = head_of(path)
        # The content says whether it is packed; a name may be wrong or missing.
        packing = packing_of(head)
        if packing is None:
            _refuse_foreign(file.name, head)
            return file

        plain_name = unpacked_name(file.name)
        unpacked = spool.new_path(plain_name)
        with _reader(packing, path) as reader:
            sha256 = spool.unpack(reader, unpacked, path.stat().st_size)

    # Packed is often a folder: what a .tar.gz holds is a .tar.
    _refuse_foreign(plain_name, head_of(unpacked))
    return replace(file, path=unpacked, name=plain_name, sha256=sha256, permit=None, identity=None)


class _Reader:
    """Reads what is packed, and has one kind of error for what is damaged."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end. Raises EOFError if they are damaged."""
        try:
            block: bytes = self._reader.read(size)
        except OSError as error:
            # An error of the disk has a number; what a library says of the content has none.
            if error.errno is not None:
                raise
            raise EOFError(str(error)) from None
        return block


@contextmanager
def _reader(packing: Packing, path: Path) -> Iterator[_Reader]:
    """Give what is packed in a file."""
    with packing.open(path) as reader:
        yield _Reader(reader)


def _refuse_foreign(name: str, head: bytes) -> None:
    """Raise InputError if a file is of a kind that is not read."""
    kind = foreign_kind(head)
    if kind is not None:
        raise InputError(f"{name}: expected a table, got {kind.shown}. {kind.advice}")


def is_zip(file: LocalFile) -> bool:
    """Say whether a file is a zip archive, whole or not."""
    with file.reading() as path:
        # A zip without its end is one too: it is refused as damaged, not read as text.
        return zipfile.is_zipfile(path) or head_of(path).startswith(ZIP_MAGIC)


@contextmanager
def opened_zip(file: LocalFile, uri: str) -> Iterator[zipfile.ZipFile]:
    """Give the opened zip `file`. Raises InputError where its list of members is no such list."""
    with file.reading() as path:
        try:
            archive = zipfile.ZipFile(path)
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{redacted(uri)}: expected a whole zip, but its list of members can't be read "
                f"({type(error).__name__}). Fetch it or pack it again."
            ) from None
        with archive:
            _refuse_document(archive, uri)
            yield archive


def _refuse_document(archive: zipfile.ZipFile, uri: str) -> None:
    """Raise InputError if a zip is what an office program saves."""
    document = foreign_zip(archive.namelist())
    if document is not None:
        shown, advice = document
        raise InputError(f"{redacted(uri)}: expected a table, got {shown}. {advice}")


def extract(file: LocalFile, member: str, spool: Spool, uri: str) -> LocalFile:
    """Return one member of the zip `file`."""
    name = printable(PurePosixPath(member).name)
    target = spool.new_path(name)
    with opened_zip(file, uri) as archive:
        info = archive.getinfo(member)
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise InputError(
                f"{redacted(uri)}: expected a zip without a password, but {printable(member)} is "
                "encrypted. Unpack it first."
            )
        with archive.open(info) as reader:
            sha256 = spool.unpack(reader, target, info.compress_size)

    content = unpacked(LocalFile(target, name, sha256, sha256), spool)
    # A configured checksum is that of the zip, not that of a member.
    return replace(
        content, packed_sha256=file.packed_sha256, place=f"{file.place}/{printable(member)}"
    )


def hash_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
