"""What the operator's pages share: the figures, counted not too often; levers that are refused in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sql
from starlette.exceptions import HTTPException

from accord.records import BadInput
from accord.store import events
from accord.web import figures
from accord.web.service import Service

_known: dict[int, tuple[float, figures.Overview]] = {}


async def overview(here: Service) -> figures.Overview:
    """The figures; on a large store they take a moment, so they are then counted less often."""
    found = _known.get(id(here))
    now = time.monotonic()
    if found is None or found[0] < now:
        counted = await here.read(lambda c: figures.overview(c, here.clock()))
        took = time.monotonic() - now
        _known.clear()
        _known[id(here)] = found = (now + 10 * took, counted)
    return found[1]


def ago(now: float, then: float | None) -> str:
    if then is None:
        return "never"
    seconds = max(0, now - then)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


async def lever(here: Service, job: Callable[[sql.Connection], Any]) -> None:
    """Do what an operator asked; a refusal becomes a page with its sentence."""
    try:
        await here.write(job)
    except events.Refused as refusal:
        raise HTTPException(refusal.status, str(refusal)[0].upper() + str(refusal)[1:] + ".") from None
    except BadInput as error:
        raise HTTPException(422, str(error)[0].upper() + str(error)[1:] + ".") from None
    here.forget()
    _known.clear()
