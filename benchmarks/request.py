"""What somebody asks a benchmark for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """Which systems to measure, and where their figures go.

    Attributes:
        name: name of the files of results.
        overrides: settings of ours, by dotted name; the values are text.
        only: the systems to measure; None measures all of them.
        run: id of the run whose other figures are kept; None drops them.
    """

    name: str
    overrides: dict[str, str]
    only: frozenset[str] | None = None
    run: str | None = None

    def wants(self, system: str) -> bool:
        """Say whether `system` is to be measured; `bayes` also stands for bayes-side and so on."""
        if self.only is None:
            return True

        family = system.replace("_", "-").split("-")[0]
        return system in self.only or family in self.only
