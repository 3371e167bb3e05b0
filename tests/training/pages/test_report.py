"""The report is one file without script or network access, and agrees with `report.json`."""

import json
import re
from html.parser import HTMLParser

import pytest

from detector import Detector
from training import fit
from training.pages import render


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]


@pytest.fixture(params=["rows_folder", "images_folder"])
def folder(request):
    """Reports of both kinds."""
    return request.getfixturevalue(request.param)


def test_report_is_self_contained(folder):
    """No script, no link, every image in the page itself."""
    page = _Tags()
    page.feed((folder / "report.html").read_text())

    assert not page.tags & {"script", "link", "iframe", "object", "form"}
    assert len(page.sources) == {"rows": 5, "images": 10}[folder.parent.name]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)


def test_report_and_card_state_the_threshold_and_its_promise(folder):
    """Page, card and manifest have the same figures."""
    threshold = Detector.load(folder).manifest.threshold
    figures = json.loads((folder / "report.json").read_bytes())

    assert figures["threshold"]["value"] == threshold.value
    assert f"score > {threshold.value}" in (folder / "README.md").read_text()
    assert f"{threshold.value:.4g}" in (folder / "report.html").read_text()
    for text in ((folder / "README.md").read_text(), (folder / "report.html").read_text()):
        assert re.search(r"at most a share of 0\.05 is flagged, with 95 % confidence", text)


def test_report_json_is_the_manifest_s_evaluation(folder):
    """The evaluation is computed once."""
    figures = json.loads((folder / "report.json").read_bytes())
    manifest = Detector.load(folder).manifest

    assert figures["evaluation"] == manifest.evaluation
    assert figures["parity"] == manifest.training["parity"]
    assert len(figures["fit"]["train_loss"]) == manifest.training["epochs"]


def test_report_and_card_show_baselines_where_there_are_anomalies(rows_folder, images_folder):
    """A small set is compared on its whole test split, so the model's figures equal the evaluation."""
    evaluation = Detector.load(rows_folder).manifest.evaluation
    comparison = evaluation["baselines"]

    assert comparison["own"]["roc_auc"] == evaluation["roc_auc"]
    assert comparison["own"]["average_precision"] == evaluation["average_precision"]
    shown = render.figure(comparison["methods"]["nearest neighbours"]["roc_auc"])
    for name in ("report.html", "README.md"):
        assert shown in (rows_folder / name).read_text()
        assert "nearest neighbours" not in (images_folder / name).read_text()
    assert Detector.load(images_folder).manifest.evaluation["baselines"] is None


def test_card_of_the_digits_names_source_and_licence(images_folder):
    """Sample rows of foreign data are never without their licence."""
    card = (images_folder / "README.md").read_text()

    assert "Alpaydin" in card
    assert "CC BY 4.0" in card


@pytest.fixture
def odd_folder(tmp_path):
    """Publish a model with a constant column named like an HTML tag, which a note repeats."""
    rows = "\n".join(f"1,{n % 5},{n % 3}" for n in range(300))
    (tmp_path / "data.csv").write_text("<script>alert(1)</script>,b,c\n" + rows + "\n")
    arguments = ["--data", str(tmp_path / "data.csv"), "--name", "x", "--store", str(tmp_path / "store")]
    assert fit.main([*arguments, "--epochs", "1"]) == 0
    return tmp_path / "store" / "x" / "1"


def test_report_escapes_names_of_the_data(odd_folder):
    """A column called like a tag stays text."""
    page = (odd_folder / "report.html").read_text()

    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_report_shows_columns_thresholds_and_rows_in_their_own_units(rows_folder):
    """Every column, every operating point, and the largest contributions with value and expectation."""
    page = (rows_folder / "report.html").read_text()
    figures = json.loads((rows_folder / "report.json").read_bytes())
    points = figures["evaluation"]["operating_points"]

    assert [column["name"] for column in figures["columns"]] == [
        *Detector.load(rows_folder).manifest.feature_names
    ]
    for column in figures["columns"]:
        assert f"<tr><td>{column['name']}</td><td>feature</td><td>{column['least']:.6g}</td>" in page
    assert [point["alpha"] for point in points] == [0.05, 0.1, 0.2]
    own = points[0]
    assert own["threshold"] == figures["threshold"]["value"]
    assert own["recall"] == figures["evaluation"]["recall"]["value"]
    assert own["false_alarm_rate"] == figures["evaluation"]["false_alarm_rate"]["value"]
    assert f"<td>{render.figure(1000 * own['expected_rate'])}</td>" in page
    assert page.count("<th>expected</th>") == 8
    assert "raw units" not in re.search(r"Compression.*?</section>", page, re.DOTALL)[0]
    for cost in figures["evaluation"]["compression"].values():
        for error in [*cost["feature_errors"].values()][:20]:
            assert f"<td>{render.raw(error)}</td>" in page


def test_report_lists_the_options_that_concern_the_preset(rows_folder, images_folder):
    """No window of a table, no smoothing of rows, and nothing that is not set."""
    rows, images = (
        json.loads((folder / "report.json").read_bytes())["configuration"]
        for folder in (rows_folder, images_folder)
    )

    assert rows["prototypes"] == 3000
    assert (
        not {"window", "merge", "residual_smoothing", "strides", "second_loss", "max_minutes"} & rows.keys()
    )
    assert images["residual_smoothing"] == 0.8
    assert not {"prototypes", "window", "second_loss"} & images.keys()
    assert None not in [*rows.values(), *images.values()]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (118_500, "118500"),
        (0.05, "0.05"),
        (True, "yes"),
        ((64, 32), "64, 32"),
        ((), "none"),
        (2.546825e-07, "2.547e-07"),
        ({"value": 0.25, "interval": [0.1, 0.5]}, "0.2500 (0.1000 to 0.5000)"),
    ],
)
def test_figures_are_counts_numbers_or_intervals(value, words):
    """A count of many decisions is not rounded."""
    assert render.figure(value) == words
