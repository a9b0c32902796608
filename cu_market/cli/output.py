"""Where a command writes: tables on standard output, or one JSON document; errors elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cu_market.cli.exits import lines_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_WIDTH = 160
"""Columns where standard output is no terminal."""


def make_console(*, is_recording: bool = False) -> Console:
    """Returns a console on standard output: as wide as the terminal, else fixed and plain."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(width=width, record=is_recording, highlight=False, soft_wrap=False)


def make_error_console() -> Console:
    """Returns a console on standard error, for progress and what goes wrong."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else PLAIN_WIDTH
    return Console(stderr=True, width=width, highlight=False)


def make_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> RenderableType:
    """Returns a table of text.

    Args:
        title: above it.
        columns: headers.
        rows: one text a column.
        right: columns that are set to the right: figures.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD)
    for name in columns:
        is_figure = name in right
        table.add_column(
            name,
            justify="right" if is_figure else "left",
            no_wrap=is_figure,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a step's [key] is no markup
    return table


def write_json(document: object) -> None:
    """Writes one JSON document on standard output, and its end of line."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def write_error(error: BaseException) -> None:
    """Writes what went wrong on standard error, a problem a line."""
    for line in lines_of(error):
        sys.stderr.write(f"cu-market: {line}\n")
    sys.stderr.flush()
