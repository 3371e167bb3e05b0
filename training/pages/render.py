"""Render the templates of this package; no Keras here."""

import json
from typing import Any

import jinja2


def render(template: str, figures: dict[str, Any], charts: dict[str, Any] | None = None) -> bytes:
    """Render a template with the figures as its variables, and `charts`, each a `data:` URI."""
    return _TEMPLATES.get_template(template).render(figures, charts=charts).encode()


def to_json(figures: dict[str, Any]) -> bytes:
    """Return the figures as a JSON file."""
    return (json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def figure(value: Any) -> str:
    """Write a count, a number with its interval, or one with four significant digits; None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(figure, value)) or "none"
    if isinstance(value, dict):
        low, high = value["interval"]
        return f"{value['value']:.4f} ({low:.4f} to {high:.4f})"
    return f"{value:.4g}"


def raw(value: Any) -> str:
    """Write a value in raw units, or a text."""
    return f"{value:.6g}" if isinstance(value, float | int) else figure(value)


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("training.pages"),
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["figure"] = figure
_TEMPLATES.filters["raw"] = raw
_TEMPLATES.filters["figured"] = lambda item: (item[0], figure(item[1]))
