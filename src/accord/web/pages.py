"""Templates and static files, read once when the program starts: no path of a request reaches the disk."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
STATIC: dict[str, bytes] = {
    entry.name: entry.read_bytes() for entry in files("accord.web").joinpath("static").iterdir()
}
VERSION = hashlib.sha256(b"".join(name.encode() + STATIC[name] for name in sorted(STATIC))).hexdigest()[:12]
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("accord.web"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(fragment(template, nonce=request.state.nonce, **values), status)


def fragment(template: str, **values: Any) -> str:
    return _environment.get_template(template).render(version=VERSION, **values)


async def static(request: Request) -> Response:
    """A file by its name; the version in the path lets browsers keep it for ever."""
    name = request.path_params["name"]
    content = STATIC.get(name)
    if content is None:
        return PlainTextResponse("There is no such file.", 404)
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    keep = "public, max-age=31536000, immutable" if request.path_params["version"] == VERSION else "no-cache"
    return Response(content, media_type=kind, headers={"cache-control": keep})
