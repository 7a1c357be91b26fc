"""What every page of accord shares: templates, escaping, a content policy by hashes, and atomic writing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

HERE = Path(__file__).parent


def json_for_script(value: Any) -> Markup:
    """JSON that can stand in a <script> element: no ``</script>``, ``<!--`` or line separator survives."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    escapes: dict[str, str | int | None] = {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
    return Markup(text.translate(str.maketrans(escapes)))


def code(text: str) -> Markup:
    """Escaped text in which `this` becomes <code>; only for accord's own sentences."""
    pieces = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 and i < len(pieces) - 1 else escape(piece)
        for i, piece in enumerate(pieces)
    )


def digest(text: str) -> str:
    """A CSP source expression for one inline element."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def policy(style: str, script: str = "") -> str:
    """A content policy that lets this style and this script run, and nothing else.

    Hashes, not 'unsafe-inline': were an escape ever forgotten, the text still could not run.
    """
    scripts = f" script-src {digest(script)};" if script else ""
    return f"default-src 'none';{scripts} style-src {digest(style)}; base-uri 'none'; form-action 'none'"


@cache
def style() -> str:
    return (HERE / "style.css").read_text(encoding="utf-8")


def template(name: str, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """A template of this folder; a name that is missing in it is an error, all text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters)
    return environment.get_template(name)


def write(path: Path, text: str) -> None:
    """Atomically: a reader sees the old file or the new one, never half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
