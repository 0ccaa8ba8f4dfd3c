"""One file of ratings as its reader sees it, and what it has to have in common with others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mf_core.config import Kind
from mf_core.errors import InputError

Header = Literal["header", "guessed", ""]
"""How the first line of a file was taken: as a header, as a row by its look, or neither."""


class Siblings:
    """The files that one URI leads to: the parts of one table.

    Args:
        several: whether there is more than one.

    Attributes:
        headers: how the first line of each was taken, by its name.
    """

    def __init__(self, several: bool) -> None:
        self.several = several
        self._with_header: str | None = None
        self._guessed: str | None = None
        self.headers: dict[str, Header] = {}

    def meet(self, name: str, *, has_header: bool, guessed: bool) -> None:
        """Take note of how a file is read.

        Args:
            name: the file.
            has_header: whether its first line names the columns.
            guessed: whether only the look of its first line says that it is a row.

        Raises:
            InputError: only some of the files have a header, so those without one may be pieces of
                a file whose columns are in another order.
        """
        self.headers[name] = "header" if has_header else "guessed" if guessed else ""
        if has_header:
            self._with_header = self._with_header or name
        if guessed:
            self._guessed = self._guessed or name
        if self._with_header and self._guessed:
            raise InputError(
                f"{self._guessed}: expected a header as {self._with_header} has one, got a row. "
                "If it is a piece of one file that was cut, put the pieces together again (cat); "
                "if it is a table of its own, name it in a line of its own in source.uri."
            )


@dataclass(frozen=True)
class Part:
    """A file of ratings.

    Attributes:
        path: where it is read.
        name: what messages and `mf.rejected_ratings` call it.
        constants: columns that its folders give to all of its rows, as far as they are read.
        siblings: the files that are one table with it, itself included.
        kind: what its rows are.
    """

    path: Path
    name: str
    constants: Mapping[str, str] = field(default_factory=dict)
    siblings: Siblings = field(default_factory=lambda: Siblings(several=False))
    kind: Kind = "ratings"
