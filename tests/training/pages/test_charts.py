"""Charts take the names that data have, whatever they are."""

import base64
from xml.etree import ElementTree

import numpy as np
import pytest

from training.figures.stepwise import StepRun
from training.pages import charts

ODD_NAMES = ("price $", "a $\\frac$ b", "$x_$", "温度", "_under", "a\x01b", "n" * 300)


def svg_texts(chart):
    """Return every text of a chart, which must be valid XML."""
    svg = ElementTree.fromstring(base64.b64decode(chart.removeprefix("data:image/svg+xml;base64,")))  # noqa: S314 our own
    return [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]


def texts(chart):
    """Return the set of texts of a chart."""
    return set(svg_texts(chart))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_charts_show_names_as_they_are(name):
    """Dollars are no formulas, other scripts no warnings, and a long name leaves room for the chart."""
    values = np.random.default_rng(0).normal(size=(4, 2))
    shown = name.replace("\x01", "\N{REPLACEMENT CHARACTER}")
    shown = shown if len(shown) < 41 else shown[:39] + "…"

    features = charts.feature_chart(values, values / 2, values**2, list("abcd"), (name, "other"))
    latent = charts.latent_chart(values, {name: np.ones(4, dtype=bool)}, ("x", "y"))

    assert shown in texts(features)
    assert shown in texts(latent)


def test_logarithmic_axes_are_labelled_with_plain_numbers():
    """No label is a formula that nobody renders."""
    scores = np.random.default_rng(0).lognormal(-6, 1, size=200)

    chart_texts = texts(charts.score_chart(scores, scores[:50], scores[50:60], 0.01))
    chart_texts |= texts(charts.loss_chart([0.5, 0.05, 0.02], [0.6, 0.07, 0.03], 3, "corrupted"))

    assert {"0.01", "0.1", "validation (corrupted inputs)"} <= chart_texts
    assert not any("\\" in text for text in chart_texts if text)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((8,), (2, 4)),
        ((7,), (1, 7)),
        ((28, 8), (28, 8)),
        ((4, 4, 8), (8, 16)),
        ((14, 14, 1), (14, 14)),
    ],
)
def test_latents_of_any_shape_are_drawn_as_images(shape, shown):
    """Vectors in rows, maps with their channels as tiles, no value lost."""
    latents = np.random.default_rng(0).normal(size=(3, *shape))

    maps = charts._latent_maps(latents)

    assert maps.shape == (3, *shown)
    np.testing.assert_array_equal(np.sort(maps.reshape(3, -1)), np.sort(latents.reshape(3, -1)))


def test_channels_of_a_latent_map_are_tiles():
    """The second channel is drawn to the right of the first."""
    latents = np.arange(2 * 2 * 2).reshape(1, 2, 2, 2)

    np.testing.assert_array_equal(charts._latent_maps(latents)[0], [[0, 2, 1, 3], [4, 6, 5, 7]])


@pytest.mark.parametrize("n_names", [2, 9])
def test_a_few_channels_have_a_legend(n_names):
    """Their names below the windows; a dozen would fill the chart."""
    names = [f"channel {number}" for number in range(n_names)]
    windows = np.random.default_rng(0).normal(size=(3, 8, n_names))

    chart = charts.side_chart(windows, windows[:, 0], windows, "abc", (-1, 1), images=False, names=names)

    assert ("channel 1" in texts(chart)) is (n_names == 2)


def test_entities_are_named_above_their_steps():
    """A name is not repeated after a gap, and an empty name is not shown."""
    part = np.repeat([0, 1, 2], 4)
    values, never = np.ones((12, 1)), np.zeros(12, dtype=bool)
    run = StepRun(np.arange(12), part, values, values, values[:, 0], never, never, never)

    for names, shown in ((("north", "north", "south"), {"north", "south"}), (("", "", ""), set())):
        chart = charts.step_chart(values, values, run, 2.0, ["x"], str, lambda step, of=names: of[part[step]])
        found = [text for text in texts(chart) if text in ("north", "south")]
        assert set(found) == shown


@pytest.mark.parametrize(("shift", "count"), [(0.0, 2), (9.0, 1)])
def test_names_that_hide_each_other_stand_in_a_legend(shift, count):
    """Two labels with one mean are two names on one spot."""
    points = np.random.default_rng(0).normal(size=(40, 2))
    points[20:] = points[:20] + shift
    first = np.arange(40) < 20

    chart = charts.latent_chart(points, {"hot": first, "worn": ~first}, ("x", "y"))

    assert svg_texts(chart).count("hot") == count


def test_a_long_logarithmic_axis_has_labels_for_powers_alone():
    """Other labels would overlap."""
    scores = np.geomspace(1e-4, 10, 50)

    assert {"0.001", "0.1"} < texts(charts.score_chart(scores, scores, scores, 0.1))
    assert "0.002" not in texts(charts.score_chart(scores, scores, scores, 0.1))
