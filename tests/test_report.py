"""The HTML report: whole, safe, self-contained, and right in its figures."""

import base64
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from helpers_report import class_names, make_run
from kinema.charts import Line, confusion_chart, line_chart, shorten, ticks
from kinema.errors import KinemaError
from kinema.html_report import write_report
from kinema.mistakes import example_of, most_confused
from kinema.scores import Scores

VOID = {"meta", "img", "br", "link", "input"}
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"


class Page(HTMLParser):
    """Elements and text of a page; fails on tags that do not close."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def count(self, tag, **wanted):
        return sum(
            name == tag and wanted.items() <= attributes.items()
            for name, attributes in self.elements
        )


def percent(share):
    return f"{share * 100:.1f}{NARROW_SPACE}%"


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    run = tmp_path_factory.mktemp("ten") / "my run"
    results = make_run(run, classes=class_names(10))
    return run, results, write_report(run).read_text(encoding="utf-8")


def test_headline_and_table_show_the_figures_of_results_json(ten):
    run, results, html = ten
    text = " ".join(Page(html).text.split())
    fused = results["fusion"]["metrics"]
    best = max(stream["metrics"]["top1"] for stream in results["streams"].values())
    low, high = fused["top1_interval"]
    assert (run / "report.html").is_file()
    shown = " ".join([percent(fused["top1"]), "top-1 accuracy of all streams fused"])
    assert " ".join(shown.split()) in text
    assert " ".join(f"95 % interval {percent(low)} to {percent(high)}".split()) in text
    assert f"{100 * (fused['top1'] - best):+.1f} points against flow alone" in text
    for stream in results["streams"].values():
        for key in ("top1", "top3", "top5", "mean_class"):
            assert percent(stream["metrics"][key]) in html
    assert "14 min 49 s" in text  # the sum of 3.2, 95.4, 402 and 388 seconds
    assert "2.35 GB" in text


def test_the_page_needs_nothing_but_itself(ten):
    _, _, html = ten
    page = Page(html)
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script", html)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object")
        assert "href" not in attributes
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/jpeg;base64,")
            assert attributes["alt"]
        assert not any(name.startswith("on") for name in attributes)
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(drawings) == 4  # intervals, loss, accuracy, confusion
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)


def test_drawings_are_well_formed_and_the_matrix_has_the_counts(ten):
    _, results, html = ten
    drawings = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    counts = np.array(results["fusion"]["metrics"]["confusion"])
    titles = [title.text for title in drawings[-1].iter("title")]
    assert len(titles) == np.count_nonzero(counts + np.eye(10, dtype=int))
    name = results["classes"][0]
    share = counts[0, 0] / 12
    assert f"{name} → {name}: {counts[0, 0]} of 12 ({share:.0%})" in titles
    numbers = [int(text.text) for text in drawings[-1].iter("text") if text.text.isdigit()]
    assert sum(numbers) == counts.sum() == 120


def test_training_curves_have_a_point_per_epoch(ten):
    _, _, html = ten
    lines = re.findall(r'<polyline class="line ([^"]*)" points="([^"]*)"', html)
    assert len(lines) == 8  # two charts, two streams, training and validation
    assert sum("dashed" in css for css, _ in lines) == 4
    assert {len(points.split()) for _, points in lines} == {30}


def test_thumbnails_are_small_pictures_of_the_confused_videos(ten):
    run, results, html = ten
    counts = np.array(results["fusion"]["metrics"]["confusion"])
    wrong = counts.sum() - np.trace(counts)
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', html)
    assert 1 <= len(pictures) == min(8, np.count_nonzero(counts - np.diag(np.diag(counts))))
    assert wrong >= len(pictures)
    for picture in pictures:
        data = np.frombuffer(base64.b64decode(picture), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (120, 160, 3)
        assert len(data) < 20_000
    shown = re.findall(r"<small>([^<]*/v\d+)</small>", html)
    number = int(shown[0].rpartition("v")[2])
    original = cv2.imread(str(run / "clips" / f"{number:04d}" / "img_00001.jpg")).astype(int)
    first = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), 1)
    assert np.abs(original - first).mean() < 6


def test_commands_and_configuration_are_there(ten):
    _, results, html = ten
    text = Page(html).text
    for command in results["commands"]:
        assert command in html
    assert "Configuration of rgb" in text
    assert "num_segments 3" in text
    assert "milestones 30, 60" in text
    assert "Please note" not in text


def test_a_hundred_classes_are_compact(tmp_path):
    results = make_run(
        tmp_path,
        classes=class_names(101),
        per_class=3,
        streams=("rgb", "flow", "rgbdiff"),
        videos=False,
    )
    html = write_report(tmp_path).read_text(encoding="utf-8")
    matrix = ET.fromstring(re.findall(r"<svg.*?</svg>", html, re.DOTALL)[-1])
    assert float(matrix.get("viewBox").split()[2]) < 1180  # fits a page without shrinking
    sizes = [text.get("font-size") for text in matrix.iter("text")]
    assert sizes.count("9") == 2 * 101
    assert not any(text.text.isdigit() for text in matrix.iter("text"))
    assert all(name in html for name in results["classes"])
    assert Page(html).count("span", **{"class": "dots"}) == 101
    assert len(html) < 400_000


def test_names_cannot_become_markup(tmp_path):
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b", "'c'"]
    make_run(tmp_path, classes=names, per_class=5, videos=False)
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    results["commands"] = ["kinema run '<b>bold</b>' && echo"]
    results["warnings"] = ["<i>odd</i>"]
    path.write_text(json.dumps(results))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert page.count("script") == page.count("img") == page.count("i", onerror="alert(1)") == 0
    assert "kinema run '<b>bold</b>' && echo" in page.text
    assert "<i>odd</i>" in page.text
    assert all(name in page.text for name in names)
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(drawing)


def test_one_stream_without_validation_or_videos(tmp_path):
    results = make_run(
        tmp_path,
        classes=class_names(3),
        streams=("rgb",),
        per_class=4,
        validation=False,
        videos=False,
    )
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "top-1 accuracy of the rgb stream on 12 test videos" in text
    assert "Only 12 test videos" in text
    assert "rgb was trained without a validation split" in text
    assert "What fusion changes" not in text
    wrong = 12 - np.trace(results["streams"]["rgb"]["metrics"]["confusion"])
    assert ("no picture" in text) == (wrong > 0) == ("example pictures are missing" in text)


def test_what_is_missing_is_left_out_or_said(tmp_path):
    make_run(tmp_path, classes=class_names(4), videos=False)
    for folder in ("rgb", "flow", "scores", "index"):
        shutil.rmtree(tmp_path / folder)
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    for name in ("seconds", "commands", "config", "peak_memory_bytes", "videos", "command"):
        del results[name]
    results["fusion"]["metrics"]["top1"] = 0.5
    results["fusion"]["metrics"]["top5"] = float("nan")
    del results["fusion"]["metrics"]["per_class"][results["classes"][0]]
    path.write_text(json.dumps(results))
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "There are no training figures of rgb" in text
    assert "points below flow alone" in text
    assert "1 class has no test video" in text
    assert "nan" not in text.lower()


def test_other_place_and_errors(tmp_path):
    with pytest.raises(KinemaError, match=r"results.json is missing.*kinema run"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text('{"streams": {}}')
    with pytest.raises(KinemaError, match="names no tested stream"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(KinemaError, match="not a JSON file"):
        write_report(tmp_path)
    make_run(tmp_path / "run", classes=class_names(2), videos=False)
    out = tmp_path / "elsewhere" / "page.html"
    assert write_report(tmp_path / "run", out) == out
    assert out.stat().st_size > 10_000
    assert not (tmp_path / "run" / "report.html").exists()


def test_most_confused_pairs_are_ordered_by_count_then_share():
    counts = [[5, 3, 0], [1, 0, 1], [2, 0, 40]]
    pairs = most_confused(counts, classes=["a", "b", "c"])
    found = [(pair.true, pair.predicted, pair.count, pair.total) for pair in pairs]
    assert found == [("a", "b", 3, 8), ("c", "a", 2, 42), ("b", "a", 1, 2), ("b", "c", 1, 2)]


def test_the_example_is_the_surest_mistake():
    scores = Scores(
        ids=("right", "unsure", "sure"),
        values=np.array([[3, 0], [1, 2], [0, 4]], np.float32),
        kind="logits",
        labels=np.array([0, 0, 0]),
        classes=("a", "b"),
    )
    (pair,) = most_confused([[1, 2], [0, 0]], classes=["a", "b"])
    assert example_of(pair, scores) == "sure"


def test_axis_ticks_are_round_and_cover_the_range():
    assert ticks(0, 2.37) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(1, 30)[0] <= 1
    assert ticks(1, 30)[-1] >= 30
    assert len(ticks(0.001, 0.0017)) <= 8


def test_charts_of_little_data():
    assert line_chart([], title="Loss", x_label="epoch") is None
    single = line_chart(
        [Line(name="a", colour="c-rgb", points=[(1, 0.5)])], title="Loss", x_label="epoch"
    )
    assert single.count("<circle") == 1
    ET.fromstring(single)
    ET.fromstring(confusion_chart([[0, 0], [0, 3]], classes=["a", "b"]))
    assert shorten("short") == "short"
    assert shorten("x" * 40 + "end", longest=22) == "x" * 14 + "…" + "xxxxend"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it(ten, tmp_path, dark):
    """The page is light or dark as the reader wishes and not wider than the window."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium here")
    run, _, _ = ten
    shot = tmp_path / "shot.png"
    options = [
        "--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars",
        "--disable-background-networking --disable-component-update --disable-sync",
        "--window-size=500,1500",
    ]
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    subprocess.run(
        [
            chromium,
            *" ".join(options).split(),
            *scheme,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={shot}",
            (run / "report.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    picture = cv2.imread(str(shot))
    assert picture.shape[:2] == (1500, 500)
    assert (picture[:, :3].mean() < 60) == dark  # the page's margin
    assert (picture[:, -6:] == picture[0, 0]).all()  # nothing sticks out to the right
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200
