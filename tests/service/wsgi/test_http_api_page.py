"""docs/http-api.md describes every route, problem, option and metric."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.bodies import OPTIONS
from service.http.problems import TYPES
from service.wsgi.openapi_routes import ROUTES

PAGE = (Path(__file__).parents[3] / "docs" / "http-api.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"
]


def test_page_lists_every_problem_type_with_its_status():
    """The page lists no other type."""
    listed = {row[0].strip("`"): int(row[1]) for row in ROWS if row[1].isdigit()}

    assert listed == {name: kind.status for name, kind in TYPES.items()}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_page_lists_every_path(route):
    """Verbs of named models are described once."""
    path = re.sub("(?<=})/(denoise|encode|decode|classify)$", "/score", route.path)

    assert f"`{route.method.upper()} {path}`" in PAGE


def test_page_lists_every_option():
    """The table of options has a row for each name."""
    assert {name for name in OPTIONS if any(row[0] == f"`{name}`" for row in ROWS)} == set(OPTIONS)


def test_page_lists_every_metric(client):
    """The page has the name in Prometheus, without the prefix."""
    client.post("/score", json={"instances": [[1, 2, 3]]})
    families = text_string_to_metric_families(client.get("/metrics").text)

    for family in families:
        name = family.name.removeprefix("residual_") + ("_total" if family.type == "counter" else "")
        assert f"`{name}{{" in PAGE or f"`{name}`" in PAGE
