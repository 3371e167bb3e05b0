"""The report is one file without script or network, and says what `report.json` says."""

import json
import re
from html.parser import HTMLParser

import pytest

from detector import Detector


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]


@pytest.fixture(params=["rows_folder", "pictures_folder"])
def folder(request):
    """Reports of both kinds."""
    return request.getfixturevalue(request.param)


def test_report_is_self_contained(folder):
    """No script, no link, every image in the page itself."""
    page = _Tags()
    page.feed((folder / "report.html").read_text())

    assert not page.tags & {"script", "link", "iframe", "object", "form"}
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)


def test_report_and_card_state_the_threshold_and_its_promise(folder):
    """The same figures in page, card and manifest."""
    threshold = Detector.load(folder).manifest.threshold
    figures = json.loads((folder / "report.json").read_bytes())

    assert figures["threshold"]["value"] == threshold.value
    assert f"score > {threshold.value}" in (folder / "README.md").read_text()
    assert f"{threshold.value:.4g}" in (folder / "report.html").read_text()
    for text in ((folder / "README.md").read_text(), (folder / "report.html").read_text()):
        assert re.search(r"at most a share of 0\.05 is flagged, with 95 % confidence", text)


def test_report_json_is_the_manifest_s_evaluation(folder):
    """Computed once."""
    figures = json.loads((folder / "report.json").read_bytes())
    manifest = Detector.load(folder).manifest

    assert figures["evaluation"] == manifest.evaluation
    assert figures["parity"] == manifest.training["parity"]
    assert len(figures["fit"]["train_loss"]) == manifest.training["epochs"]


def test_card_of_the_digits_names_source_and_licence(pictures_folder):
    """Sample rows of foreign data are never without their licence."""
    card = (pictures_folder / "README.md").read_text()

    assert "Alpaydin" in card
    assert "CC BY 4.0" in card


def test_report_escapes_names_of_the_data(tmp_path):
    """A column called like a tag stays text."""
    from training import fit

    rows = "\n".join(f"{n % 7},{n % 5},{n % 3}" for n in range(300))
    (tmp_path / "data.csv").write_text("<script>alert(1)</script>,b,c\n" + rows + "\n")

    assert (
        fit.main(
            [
                "--data",
                str(tmp_path / "data.csv"),
                "--name",
                "x",
                "--epochs",
                "1",
                "--store",
                str(tmp_path / "s"),
            ]
        )
        == 0
    )

    assert "<script" not in (tmp_path / "s" / "x" / "1" / "report.html").read_text()
