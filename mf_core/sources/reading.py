"""One file of ratings as blocks of rows, read as what its first bytes and the settings say."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Block
from mf_core.sources.contents import ZIP_MAGIC, head_of, is_json_lines, is_parquet
from mf_core.sources.formats import AUTO, JSON, PARQUET
from mf_core.sources.json_lines import read_json_lines
from mf_core.sources.parts import Part
from mf_core.sources.plain import plain_text
from mf_core.sources.spool import Spool
from mf_core.sources.tables import read_parquet
from mf_core.sources.text import read_text


def read_part(part: Part, source: SourceConfig, spool: Spool, *, again: bool) -> Iterator[Block]:
    """Yield the rows of a file, block by block.

    Args:
        part: the file.
        source: how it is read.
        spool: where a text in another encoding is written anew, and what bytes are counted by.
        again: the file was read before, so its bytes are not counted.

    Raises:
        InputError: it can't be read as ratings.
        TooLargeError: it holds more than the limits allow.
    """
    count: Callable[[int], None] = _not_counted if again else spool.count
    head = head_of(part.path)
    if head.startswith(ZIP_MAGIC):
        raise InputError(
            f"{part.name}: expected a table, got a zip within a folder or a zip. Name it itself in "
            "source.uri, or several by a pattern; one within a zip has to be unpacked first."
        )
    # A query's result is Parquet, whatever the setting says.
    if source.layout == PARQUET or is_parquet(head):
        yield from read_parquet(part, source, count)
        return
    with plain_text(part.path, part.name, source.encoding, spool, count) as path:
        plain = replace(part, path=path)
        is_json = source.layout == AUTO and is_json_lines(head_of(path))
        if source.layout == JSON or is_json:
            yield from read_json_lines(plain, source)
        else:
            yield from read_text(plain, source)


def _not_counted(_: int) -> None:
    """Take no note."""
