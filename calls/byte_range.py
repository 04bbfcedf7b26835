"""Parts of a recording, as browsers ask for them when somebody seeks (RFC 9110, section 14). Pure."""

import re
from typing import NamedTuple

_ONE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class Unsatisfiable(ValueError):
    """The part asked for lies beyond the end."""


class Part(NamedTuple):
    """From one byte to another, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.last - self.first + 1


class Range(NamedTuple):
    """What is asked for: ``first`` to ``last`` or the end; without ``first``, the ``last`` so many bytes."""

    first: int | None
    last: int | None

    def of(self, total: int) -> Part:
        """Return which bytes of ``total`` these are. Raises ``Unsatisfiable`` when they are none."""
        if self.first is None:
            part = Part(max(0, total - (self.last or 0)), total - 1)
        else:
            part = Part(self.first, total - 1 if self.last is None else min(self.last, total - 1))
        if part.size < 1:
            raise Unsatisfiable(f"There are {total} bytes.")
        return part

    def __str__(self) -> str:
        return f"bytes={'' if self.first is None else self.first}-{'' if self.last is None else self.last}"


def parse(header: str) -> Range | None:
    """Return the range that a ``Range`` header asks for; ``None``, all, when it makes no sense or is several."""
    found = _ONE.fullmatch(header.strip())
    if not found:
        return None
    first, last = (int(text) if text else None for text in found.groups())
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return Range(first, last)


def parse_content(header: str) -> tuple[Part, int | None] | None:
    """Return the part that a ``Content-Range`` header says comes, and of how many bytes if it says; else ``None``."""
    found = _CONTENT.fullmatch(header.strip())
    if not found:
        return None
    part = Part(int(found[1]), int(found[2]))
    total = None if found[3] == "*" else int(found[3])
    return (part, total) if part.size > 0 and (total is None or part.last < total) else None
