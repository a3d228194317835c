"""Print tables and JSON on stdout: rich on a terminal, plain aligned text everywhere else."""

import dataclasses
import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import Any


def print_json(value: Any) -> None:
    """Print dataclasses, mappings, sequences and paths as JSON, two spaces deep.

    JSON has no infinity and no NaN: a number that is not finite becomes null.
    """
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> None:
    """Print rows of text under their column names.

    Args:
        columns: names, printed first.
        rows: as many cells each as there are columns.
        right: names of the columns that are numbers, and align on the right.
    """
    numbers = [column in right for column in columns]
    if sys.stdout.isatty():
        _print_rich(columns, rows, numbers)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        )
        print("  ".join(cells).rstrip())


def print_facts(facts: Mapping[str, str]) -> None:
    """Print one `name  value` line each, aligned; an empty value is left out."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value:
            print(f"{name.ljust(width)}  {value}")


def _print_rich(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, number in zip(columns, numbers, strict=True):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
