"""Write lme4's InstEval as CSV: `python read_insteval.py FOLDER_OF_RDATA OUT.csv`.

R keeps the data of a package in one file, Rdata.rdb, and where each object lies in it in Rdata.rdx.
Both are compressed, and what the first holds begins with four bytes that say how long it will be.
"""

import sys
import zlib
from pathlib import Path
from typing import Any

import rdata


def main() -> None:
    """Read the object, and write its columns student, lecturer and rating."""
    folder = Path(sys.argv[1])
    index = _unpacked((folder / "Rdata.rdx").read_bytes())
    offset, length = (int(number) for number in index["variables"]["InstEval"])

    held = (folder / "Rdata.rdb").read_bytes()[offset : offset + length]
    table = _unpacked(held[4:])
    table[["s", "d", "y"]].astype(int).to_csv(sys.argv[2], header=False, index=False)


def _unpacked(data: bytes) -> Any:
    """Return the R object in `data`, which is compressed by zlib or gzip."""
    either = zlib.MAX_WBITS | 32
    return rdata.conversion.convert(rdata.parser.parse_data(zlib.decompress(data, either)))


if __name__ == "__main__":
    main()
