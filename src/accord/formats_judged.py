"""The answers of a file that were judged alone, as KTO learns from them: none needs a partner."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accord.formats_files import open_rows
from accord.formats_messages import BadRow
from accord.formats_rows import COMPARISON_FORMATS
from accord.formats_unpaired import Unpaired, pair_up

_FORMATS = [form for form in COMPARISON_FORMATS if form.gather is pair_up]


def read_judged(path: str | Path) -> tuple[Unpaired, ...]:
    """All judged answers of a file, in order; none where it holds anything else, pairs for example.

    Rows that cannot be used are passed over: ``formats.read_comparisons`` of the same file names them.
    """
    source, found = open_rows(path), list[Unpaired]()
    for row in source.rows:
        if row.value is None:
            continue
        form = next((form for form in _FORMATS if form.matches(row.value)), None)
        if form is None:
            return ()
        try:
            records: Iterable[Any] = form.records(row.value, Path(source.path).name)
        except BadRow:
            continue
        found += records  # of these formats, before `pair_up`
    return tuple(found)
