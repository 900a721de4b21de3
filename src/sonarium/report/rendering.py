"""Rendering of offline pages from the templates in this folder."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, functions: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """Render a page from these values; the template and its parts may call `functions`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(functions or {})
    return environment.get_template(template).render(**values)


def data_uri(content: bytes, kind: str) -> str:
    """Data URI with the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
