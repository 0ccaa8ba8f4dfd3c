"""A block with odd lines is cut into pieces; its rows are those of the whole read line by line."""

import random
from dataclasses import replace
from typing import Any

import pytest

from mf_core.sources import lines as lines_module
from mf_core.sources import splitting
from mf_core.sources.layout import TextLayout
from mf_core.sources.splitting import Lines, split_block

USUAL = [b"u1,i1,4,100", b"u2,i2,3,", b'"u3","i,3",2,5', b'"u""4",i4,1,6', b"u5,i5,5,7\r"]
ODD = [
    b"u,i",
    b"u,i,1,2,3",
    b"",
    b"u\0,i,1,2",
    b"M\xfcller,i,1,2",
    b'u,"i,1,2',
    b'u"x,i,1,2',
    b'"u\nv",i,3,4',
    b'"u\n\nv",i,3,4',
    b'"u\nv",i,3',
]
LAYOUT = TextLayout(
    delimiter=",",
    quoted=True,
    header_lines=0,
    n_fields=4,
    user=0,
    item=1,
    rating=2,
    time=3,
    side=None,
    event=None,
)


def read(data: bytes, layout: TextLayout) -> tuple[list[tuple[object, ...]], list[object]]:
    """Return the rows of a block with their lines and texts, and the lines that are none."""
    block = split_block(Lines(data, 7), layout)
    rows: Any = block.rows
    found = []
    for i, values in enumerate(zip(rows.user, rows.item, rows.rating, rows.time, strict=True)):
        texts = [value.as_py() for value in values]
        found.append((int(rows.line[i]), *texts, rows.raw(i)))
    return found, [(row.line, row.raw, row.reason, row.cause) for row in block.rejected]


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_pieces_are_the_block_line_by_line(
    monkeypatch: pytest.MonkeyPatch, seed: int, quoted: bool
) -> None:
    for module in (lines_module, splitting):
        monkeypatch.setattr(module, "MAX_RECORD_LINES", 4)
    rng = random.Random(seed)
    share = rng.choice([0.01, 0.05, 0.3])
    usual = USUAL if seed % 2 else USUAL[:2]
    records = [rng.choice(ODD if rng.random() < share else usual) for _ in range(200)]
    data = b"\n".join(records) + b"\n"
    layout = replace(LAYOUT, quoted=quoted)

    monkeypatch.setattr(splitting, "_MIN_PIECE_BYTES", len(data))
    whole = read(data, layout)
    monkeypatch.setattr(splitting, "_MIN_PIECE_BYTES", 40)
    assert read(data, layout) == whole


def test_one_bad_line_costs_a_small_part_of_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    by_itself: list[int] = []

    def counted(lines: list[bytes], at: int, shape: TextLayout) -> lines_module.Record:
        by_itself.append(at)
        return lines_module.split_record(lines, at, shape)

    monkeypatch.setattr(splitting, "split_record", counted)
    data = b'"u,1",i1,4,100\n' * 200_000 + b"bad\n" + b"u1,i1,4,100\n" * 200_000
    block = split_block(Lines(data, 2), LAYOUT)
    assert [row.line for row in block.rejected] == [200_002]
    assert len(block.rows.line) == 400_000
    assert 0 < len(by_itself) < 2_000
