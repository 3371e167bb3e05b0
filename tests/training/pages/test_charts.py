"""Charts take the names that data have, whatever they are."""

import base64
import re
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

    (windows,) = charts.window_charts(values[None], values[None] / 2, values[None] ** 2, (name, "other"))
    latent = charts.latent_chart(values, {name: np.ones(4, dtype=bool)}, ("x", "y"))

    assert shown in texts(windows)
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


@pytest.mark.parametrize(("shift", "has_legend"), [(0.0, True), (9.0, False)])
def test_names_that_hide_each_other_stand_in_a_legend(shift, has_legend):
    """Two labels with one mean would be two names on one spot."""
    points = np.random.default_rng(0).normal(size=(40, 2))
    points[20:] = points[:20] + shift
    first = np.arange(40) < 20

    chart = charts.latent_chart(points, {"hot": first, "worn": ~first}, ("x", "y"))

    assert {"hot", "worn"} < texts(chart)
    assert ('id="legend_1"' in charts.svg_of(chart).decode()) is has_legend


def sizes(chart):
    """Return the least size of type in pixels, and the width of the chart, at its own size."""
    svg = charts.svg_of(chart).decode()
    found = re.findall(r"font(?:-size)?: [a-z ]*([\d.]+)px", svg)
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 96 / 72
    return min(map(float, found)) * 96 / 72, width


def test_type_is_readable_on_a_large_and_a_small_screen():
    """At least 9 pixels where a chart shrinks to 350 pixels, the room on a screen of 400, or to 1,000."""
    rng = np.random.default_rng(0)
    scores, is_anomaly = rng.lognormal(size=90), np.arange(90) > 60
    windows, values, never = rng.normal(size=(2, 8, 3)), np.ones((12, 1)), np.zeros(12, dtype=bool)
    run = StepRun(np.arange(12), np.zeros(12, int), values, values, scores[:12], never, never, never)
    images = rng.uniform(size=(2, 8, 8))
    series = (values, values, run, 2.0, ["x"], str, lambda step: "")
    small = [
        charts.loss_chart([0.5, 0.05, 0.02], [0.6, 0.07, 0.03], 3),
        charts.score_chart(scores, scores, scores, 1.0),
        *charts.ranking_charts(scores, is_anomaly, 1.0),
        charts.latent_chart(windows[0, :, :2], {"a": np.ones(8, dtype=bool)}, ("x", "y")),
        *charts.window_charts(windows, windows, windows**2, "abc"),
        *charts.image_charts(images, images[:, 0], images, images, (0, 1)),
        *charts.denoising_charts(images, images, images, (0, 1)),
        charts.step_chart(*series, width=charts.WIDTH),
    ]

    for chart, room in [*((chart, 350) for chart in small), (charts.step_chart(*series), 1000)]:
        size, width = sizes(chart)
        assert size * min(1, room / width) >= 9


def test_curves_mark_the_threshold():
    """Recall, precision and false-alarm rate of the decision, by counting."""
    score, is_anomaly = np.array([1.0, 2, 3, 4, 5]), np.array([False, False, True, False, True])

    precision_recall, roc = charts.ranking_charts(score, is_anomaly, 2.5)

    assert {"recall", "precision", "at the threshold"} <= texts(precision_recall)
    assert {"recall", "false-alarm rate", "at the threshold"} <= texts(roc)


def test_a_long_logarithmic_axis_has_labels_for_powers_alone():
    """Other labels would overlap."""
    scores = np.geomspace(1e-4, 10, 50)

    assert {"0.001", "0.1"} < texts(charts.score_chart(scores, scores, scores, 0.1))
    assert "0.002" not in texts(charts.score_chart(scores, scores, scores, 0.1))
