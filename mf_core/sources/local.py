"""Files that can be read here, and what is packed in them: gz and zip."""

import gzip
import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mf_core.errors import InputError
from mf_core.redaction import redacted
from mf_core.sources.chunks import printable
from mf_core.sources.formats import GZIP, ZIP, unpacked_name
from mf_core.sources.opening import Identity, opened
from mf_core.sources.reach import Permit
from mf_core.sources.spool import Spool

_ENCRYPTED_FLAG = 1


@dataclass(frozen=True)
class LocalFile:
    """A file that can be read here.

    Attributes:
        path: where it is.
        name: its name without .gz, for messages and for what depends on the name.
        sha256: the checksum of its (unpacked) content.
        packed_sha256: the checksum of the file that it came in.
        permit: what it was judged by; None for a file in the spool.
        identity: which file it is; None for a file in the spool.
    """

    path: Path
    name: str
    sha256: str
    packed_sha256: str
    permit: Permit | None = None
    identity: Identity | None = None

    @contextmanager
    def reading(self) -> Iterator[Path]:
        """Give a path to read the file by, which leads to the very file that was judged.

        Raises:
            InputError: another file has come in its place.
        """
        if self.permit is None:
            yield self.path
        else:
            with opened(self.path, self.permit, self.identity) as path:
                yield path


def unpacked(file: LocalFile, spool: Spool) -> LocalFile:
    """Return `file` itself, or what it holds if it is packed."""
    with file.reading() as path:
        # The content says whether it is packed; a name may be wrong or missing.
        if not _starts_with(path, GZIP.magic):
            return file

        plain_name = unpacked_name(file.name)
        unpacked = spool.new_path(plain_name)
        with gzip.open(path) as reader:
            sha256 = spool.unpack(reader, unpacked, path.stat().st_size)
    return LocalFile(unpacked, plain_name, sha256, packed_sha256=file.packed_sha256)


def is_zip(file: LocalFile) -> bool:
    """Say whether a file is a zip archive, whole or not."""
    with file.reading() as path:
        # A zip without its end is one too: it is refused as damaged, not read as text.
        return zipfile.is_zipfile(path) or _starts_with(path, ZIP.magic)


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
            yield archive


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
    return LocalFile(
        content.path,
        content.name,
        sha256=content.sha256,
        packed_sha256=file.packed_sha256,
    )


def _starts_with(path: Path, magic: bytes) -> bool:
    """Return whether the first bytes of a file are those of a format."""
    with path.open("rb") as file:
        first_bytes = file.read(len(magic))
    return first_bytes == magic


def hash_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
