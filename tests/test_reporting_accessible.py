"""Pages for everybody: words for what is seen, headings in order, tables with heads, colors that can be read."""

import itertools
import re
from html.parser import HTMLParser

import pytest
from pygments.styles import get_style_by_name

from mcnlab.reporting.export import DARK_CODE, LIGHT_CODE
from mcnlab.reporting.pages import write_report
from mcnlab.reporting.render import TEMPLATES
from mcnlab.reporting.style import DARK_TWINS, INK, QUIET
from tests.fake_study import ALL, DEFAULT, FakeExperiment, write_fake_study

EVIL = FakeExperiment('"><img src=x onerror="alert(1)">', ALL)
READABLE = 4.5
"""WCAG 2.2, contrast of text of usual size, level AA."""
TEXT_ON = {
    "ink": ("page", "soft", "good", "bad", "own"),
    "quiet": ("page", "soft", "good", "own"),
    "link": ("page", "soft", "bad"),
    "failed": ("page", "soft"),
    "right": ("page",),
    "on-mark": ("mark",),
}
"""Which text stands on what; by the variables of page.css."""
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    study = write_fake_study(
        tmp_path_factory.mktemp("study"),
        experiments=(DEFAULT[0], DEFAULT[3], DEFAULT[5], EVIL),
        clips=30,
        failed=("V+A",),
    )
    return write_report(study, tmp_path_factory.mktemp("report"), title="Report", question="Why?")


class Page(HTMLParser):
    """What a page is made of, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.within = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        number = len(self.found)
        self.found.append((tag, dict(attrs)))
        self.within[number] = [place for _, place in self.open]
        if tag not in ("img", "meta", "br", "link", "input"):
            self.open.append((tag, number))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def all(self, *tags):
        return [attrs for tag, attrs in self.found if tag in tags]

    def inside(self, tag):
        """Tags below each element of a kind."""
        places = [number for number, (name, _) in enumerate(self.found) if name == tag]
        return [[self.found[n][0] for n, above in self.within.items() if place in above] for place in places]


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


def test_every_picture_has_words(page):
    images, drawings = page.all("img"), [one for one in page.all("svg", "div") if one.get("role") == "img"]
    assert len(images) > 18
    assert len(drawings) > 5
    assert all((one.get("alt") or "").strip() for one in images)
    assert all(one["aria-label"].strip() for one in drawings)
    plots = [one for one in page.all("div") if one.get("class") == "plot"]
    assert all(one["role"] == "img" for one in plots)


def test_every_figure_has_a_caption_and_its_numbers(page):
    for inside in page.inside("figure"):
        assert "figcaption" in inside
        assert "table" in inside or "svg" in inside  # a drawn graph says all in its caption


def test_no_element_does_anything_by_an_attribute(page):
    assert [name for _, attrs in page.found for name in attrs if name.startswith("on")] == []


def test_headings_go_down_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_table_says_what_it_is_and_what_its_heads_head(page):
    assert len(page.all("table")) > 8
    assert all("caption" in inside for inside in page.inside("table"))
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))


def test_names_are_given_once_and_links_inside_lead_somewhere(page):
    names = [one["id"] for _, one in page.found if "id" in one]
    assert len(names) == len(set(names))
    inside = [one["href"][1:] for one in page.all("a") if one.get("href", "").startswith("#")]
    assert set(inside) <= set(names)
    assert "main" in inside


def test_a_page_names_its_language_and_its_buttons(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(one.get("aria-label") or one.get("id") == "theme" for one in page.all("button"))


# colors


def luminance(color):
    """Of WCAG 2.2, from #rrggbb."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def variables(theme):
    """Colors of page.css in one theme."""
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    assert len(pairs) > 10
    return {name: (light, dark)[THEMES.index(theme)] for name, light, dark in pairs}


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("text", TEXT_ON)
def test_text_can_be_read_on_everything_it_stands_on(text, theme):
    colors = variables(theme)
    for ground in TEXT_ON[text]:
        assert contrast(colors[text], colors[ground]) >= READABLE, ground


def test_colors_that_text_takes_are_all_looked_at():
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    used = set(re.findall(r"(?<![\w-])color: var\(--([\w-]+)\)", css))
    assert used <= set(TEXT_ON)
    named = re.findall(r"(?<![\w-])color: (?!var\(|inherit)([^;]+);", css)
    assert named == []


@pytest.mark.parametrize("color", [INK, QUIET])
def test_words_in_figures_can_be_read_in_both_themes(color):
    page = {theme: variables(theme)["page"] for theme in THEMES}
    assert contrast(color, page["light"]) >= READABLE
    assert contrast(DARK_TWINS[color], page["dark"]) >= READABLE
    assert DARK_TWINS["white"] == page["dark"]


@pytest.mark.parametrize(("style", "theme"), [(LIGHT_CODE, "light"), (DARK_CODE, "dark")])
def test_code_can_be_read(style, theme):
    ground = variables(theme)["soft"]
    shown = {str(kind): look["color"] for kind, look in get_style_by_name(style)}
    usual = {kind: color for kind, color in shown.items() if color and "Error" not in kind and "Generic" not in kind}
    assert len(usual) > 10
    assert min(contrast(f"#{color}", ground) for color in usual.values()) >= READABLE


def test_scales_keep_their_order_on_dark_pages():
    light = ["#f7f9fb", "#c6dbef", "#6baed6", "#2171b5", "#08306b"]
    dark = [luminance(DARK_TWINS[one]) for one in light]
    assert dark == sorted(dark)
    assert [luminance(one) for one in light] == sorted((luminance(one) for one in light), reverse=True)
