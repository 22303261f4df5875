"""A report in headless Chromium, opened as a file with the network refused."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from markupsafe import Markup

from mcnlab.data.recording_sound import as_wav
from mcnlab.reporting.figures import tradeoff_figure
from mcnlab.reporting.gallery import SOUNDS_FILE
from mcnlab.reporting.heatmaps import factors_figure
from mcnlab.reporting.pages import write_report
from mcnlab.reporting.render import figure_view, fragment, render
from mcnlab.reporting.run_figures import run_curves
from mcnlab.reporting.style import Figure
from mcnlab.reporting.summary import summarize
from mcnlab.runs import RunFolder
from tests.fake_study import ALL, DEFAULT, FakeExperiment, write_fake_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
EVIL = FakeExperiment("=1+1", ALL)
FEW = (DEFAULT[0], DEFAULT[3], DEFAULT[5], EVIL)
PAPER_PX = (704, 1032)
"""Width and height of A4 within its margins."""
MOST_BYTES = 8_000_000
OPENS_S = 2.0
LOOK = (Path(__file__).parent / "page_look.js").read_text(encoding="utf-8")
ALL_DRAWN = "() => [...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn === 'yes')"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = write_fake_study(tmp_path_factory.mktemp("study"), experiments=FEW, seeds=(0, 1), clips=40)
    noise = as_wav(np.random.default_rng(0).uniform(-0.1, 0.1, 20480))
    for run in study.iterdir():
        sounds = pd.DataFrame({"id": RunFolder(run).clip_ids(), "wav": noise, "cut": False})
        sounds.to_parquet(run / SOUNDS_FILE)
    return study


@pytest.fixture(scope="module")
def index(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("report"), title="Report", question="Why?")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, index):
    """The index page with all figures drawn, what it asked for, and what the console said."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light", offline=True)
    with context:
        page = context.new_page()
        asked, said = [], []
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(index.as_uri())
        page.wait_for_function(ALL_DRAWN, timeout=60_000)
        yield page, asked, said


def test_every_figure_is_drawn_offline_and_the_console_stays_silent(opened, index):
    page, asked, said = opened
    places = page.locator(".plot").count()
    assert places >= 5
    assert page.locator(".plot .main-svg").count() >= places
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [index.as_uri()]
    assert said == []


def test_a_clip_shows_its_caption_and_lights_up_in_every_map(opened):
    page, _, said = opened
    page.locator(".plot[data-clips] .scatterlayer .point").first.scroll_into_view_if_needed()
    page.locator(".plot[data-clips] .scatterlayer .point").first.hover(force=True)
    page.wait_for_function("() => document.getElementById('tip').style.display === 'block'", timeout=5_000)
    assert len(page.locator("#tip .words").inner_text()) > 5
    assert page.locator("#tip .picture").is_visible()
    assert page.locator(".plot[data-clips] .ring").count() == len(FEW)
    assert said == []


def test_no_button_sends_a_figure_anywhere(opened):
    page, _, _ = opened
    page.locator(".plot").first.hover()
    titles = [button.get_attribute("data-title") or "" for button in page.locator(".modebar-btn").all()]
    assert any("Download" in title for title in titles)
    assert not any(word in title for title in titles for word in ("Share", "cloud", "Edit"))


@pytest.mark.parametrize("width", [1440, 900])
def test_a_page_is_no_wider_than_its_window(opened, width):
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# looks


def looked_at(browser, path, width, theme):
    """What is wrong with the look of a page, and what the console and the network said."""
    size = {"width": width, "height": 900}
    with browser.new_context(viewport=size, color_scheme=theme, offline=True) as context:
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function(ALL_DRAWN, timeout=60_000)
        found = page.evaluate(LOOK)
        return {**found, "wide": max(0, found["wide"]), "said": said}


NOTHING = {"wide": 0, "overlaps": [], "cut": [], "missing": [], "said": []}


@pytest.fixture(scope="module")
def pages(index, study, tmp_path_factory):
    """The index, and a page as a notebook's that holds the figures that no index has."""
    summary = summarize(study)
    figures = [
        tradeoff_figure(summary),
        factors_figure(summary),
        *(run_curves(RunFolder(run)) for run in sorted(study.iterdir())[:1]),
    ]
    shown = Markup("").join(fragment("figure", figure_view(one)) for one in figures)
    page = render(
        "notebook.html.j2", title="t", has_figures=True, content=shown, back=None, problem=None, provenance=[]
    )
    other = tmp_path_factory.mktemp("pages") / "notebook.html"
    other.write_text(page, encoding="utf-8")
    return {"index": index, "notebook": other}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 900])
@pytest.mark.parametrize("name", ["index", "notebook"])
def test_nothing_overlaps_is_cut_or_missing(browser, pages, name, width, theme):
    assert looked_at(browser, pages[name], width, theme) == NOTHING


def test_an_overlap_a_cut_name_a_wide_body_and_a_strange_letter_are_found(browser, tmp_path):
    plot = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="markers"))
    for words, x in (("first name", 0.5), ("second name", 0.505), ("a name that is cut", 1.0)):
        side = "left" if words.startswith("a ") else "center"
        plot.add_annotation(text=words, x=x, y=0.5, xref="paper", yref="paper", xanchor=side, showarrow=False)
    plot.update_layout(margin={"l": 20, "r": 5, "t": 20, "b": 40})
    planted = fragment("figure", figure_view(Figure("planted", "Planted", "", "", plot)))
    planted += Markup("<p>\ue001</p><div style='width: 2000px'>wide</div>")
    page = tmp_path / "planted.html"
    page.write_text(
        render(
            "notebook.html.j2", title="t", has_figures=True, content=planted, back=None, problem=None, provenance=[]
        ),
        encoding="utf-8",
    )
    found = looked_at(browser, page, 900, "light")
    assert found["overlaps"] == ["planted: “first name” and “second name”"]
    assert found["cut"] == ["planted: “a name that is cut”"]
    assert found["missing"] == ["\ue001"]
    assert found["wide"] > 1000
    assert found["said"] == []


# figures far from the window


DRAWN_COUNT = "() => [...document.querySelectorAll('.plot')].filter((plot) => plot.dataset.drawn === 'yes').length"


def test_figures_wait_for_the_reader_but_not_for_paper(browser, index):
    with browser.new_context(viewport={"width": 1440, "height": 300}, offline=True) as context:
        page = context.new_page()
        page.goto(index.as_uri())
        for step in range(15):  # somebody at work: nothing far away is drawn
            page.mouse.move(step * 10, 100)
            page.wait_for_timeout(100)
        count = page.locator(".plot").count()
        assert page.evaluate(DRAWN_COUNT) < count
        page.evaluate("document.querySelectorAll('.plot')[2].scrollIntoView({behavior: 'instant'})")
        page.wait_for_function("() => document.querySelectorAll('.plot')[2].dataset.drawn === 'yes'", timeout=10_000)
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(
            "() => [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"
        )


# themes


def background(page, selector):
    return page.evaluate("(css) => getComputedStyle(document.querySelector(css)).backgroundColor", selector)


def test_page_and_figures_follow_the_system_and_the_switch(opened):
    page, _, said = opened
    paper = "() => document.querySelector('.plot')._fullLayout.paper_bgcolor"
    assert (background(page, "body"), page.evaluate(paper)) == ("rgb(255, 255, 255)", "white")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert (background(page, "body"), page.evaluate(paper)) == ("rgb(18, 24, 31)", "#12181f")
    switch = page.locator("#theme")
    switch.click()  # from the system's to light
    assert switch.inner_text() == "theme: light"
    assert (background(page, "body"), page.evaluate(paper)) == ("rgb(255, 255, 255)", "white")
    page.reload()
    assert page.locator("#theme").inner_text() == "theme: light"
    page.locator("#theme").press("Enter")
    assert background(page, "body") == "rgb(18, 24, 31)"
    assert said == []


def test_the_number_in_a_cell_stands_out_in_both_themes(opened):
    page, _, _ = opened
    look = """() => [...document.querySelectorAll('#retention .heatmap-label text')]
        .map((text) => [text.__data__.z, text.style.fill])"""
    for theme, zero, one in (("light", "rgb(0, 0, 0)", "rgb(255, 255, 255)"),
                             ("dark", "rgb(255, 255, 255)", "rgb(0, 0, 0)")):  # fmt: skip
        page.emulate_media(color_scheme=theme)
        page.wait_for_timeout(300)
        cells = page.evaluate(look)
        assert {fill for z, fill in cells if z < 0.2} == {zero}
        assert {fill for z, fill in cells if z > 0.85} == {one}


# paper


def test_nothing_is_cut_on_paper_which_is_white(opened):
    page, _, said = opened
    page.emulate_media(color_scheme="dark", media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.set_viewport_size({"width": PAPER_PX[0], "height": PAPER_PX[1]})  # as the sheet is laid out
    page.wait_for_timeout(500)
    sizes = page.evaluate("""() => [...document.querySelectorAll('.plot, .plot .main-svg, main table')]
        .map((one) => one.getBoundingClientRect()).map((box) => [box.width, box.height])
        .filter(([width]) => width > 0)""")
    assert len(sizes) > 20
    assert max(width for width, _ in sizes) <= PAPER_PX[0]
    figures = page.evaluate(
        "() => [...document.querySelectorAll('figure')].map((one) => one.getBoundingClientRect().height)"
    )
    assert max(figures) <= PAPER_PX[1]
    assert page.evaluate("() => document.querySelector('.plot')._fullLayout.paper_bgcolor") == "white"
    assert background(page, "body") == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("() => document.querySelector('.plot')._fullLayout.paper_bgcolor") == "#12181f"
    assert page.evaluate("() => document.querySelector('.plot .main-svg').getBoundingClientRect().width") > 1000
    assert said == []


def test_a_pdf_has_all_heads_and_figures(opened, tmp_path):
    page, _, said = opened
    content = page.pdf(path=tmp_path / "report.pdf", format="A4", prefer_css_page_size=True, print_background=True)
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") >= 4
    assert said == []


# tables


def test_a_table_sorts_by_click_and_by_key(opened):
    page, _, _ = opened
    table = page.locator("table.comparison").first
    heads = table.locator("th[scope=col]")
    column = next(n for n, head in enumerate(heads.all()) if head.inner_text().strip() == "T→V R@1")
    cells = lambda: [row.locator("td, th").nth(column).inner_text() for row in table.locator("tbody tr").all()]  # noqa: E731
    means = lambda: [float(cell.split()[0].replace("−", "-")) for cell in cells() if cell != "–"]  # noqa: E731
    before = means()
    button = heads.nth(column).locator("button")
    button.click()
    assert heads.nth(column).get_attribute("aria-sort") == "ascending"
    assert means() == sorted(before)
    button.press("Enter")
    assert heads.nth(column).get_attribute("aria-sort") == "descending"
    assert means() == sorted(before, reverse=True) != before
    button.press("Space")
    assert heads.nth(column).get_attribute("aria-sort") is None
    assert means() == before


def test_a_table_is_saved_as_csv_that_computes_nothing(opened, study):
    page, _, said = opened
    with page.expect_download() as waiting:
        page.locator("#comparison ~ .scroll + button.save").first.click()
    assert waiting.value.suggested_filename == "report-comparison.csv"
    text = waiting.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["experiment"] for row in rows] == [
        "'=1+1" if name == EVIL.name else name for name in summarize(study).experiments
    ]
    assert not any(cell.startswith(("=", "@")) for row in rows for cell in row.values())
    assert {"T→V R@1", "T→V R@1 ±", "T→V R@1 difference", "experiment recipe"} <= set(rows[0])
    measured = [row["T→V R@1"] for row in rows if row["T→V R@1"] != "–"]
    assert len(measured) >= 2
    assert all(0 <= float(cell) <= 1 for cell in measured)
    assert said == []


# figures


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_figure_is_saved_light_under_its_name(opened, kind, start):
    page, asked, said = opened
    page.emulate_media(color_scheme="dark")
    with page.expect_download() as waiting:
        page.locator(f"#retention button[data-save={kind}]").click()
    assert waiting.value.suggested_filename == f"report-retention.{kind}"
    content = waiting.value.path().read_bytes()
    assert content.startswith(start)
    if kind == "svg":
        assert b"#12181f" not in content
        assert b"video embedding" in content
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    assert said == []


def test_the_bar_of_a_figure_offers_svg_too(opened):
    page, _, _ = opened
    titles = [one.get_attribute("data-title") or "" for one in page.locator("#recall .modebar-btn").all()]
    assert "Download plot as SVG" in titles


# examples, reproduction, reading


def test_a_player_plays(opened):
    page, _, said = opened
    assert page.locator("audio").count() > 20
    played = page.evaluate("""async () => {
        const player = document.querySelector('.card audio');
        player.muted = true;
        await player.play();
        await new Promise((done) => setTimeout(done, 300));
        return [player.duration, player.currentTime, player.error];
    }""")
    assert played[0] == pytest.approx(1.28, abs=0.01)
    assert played[1] > 0
    assert played[2] is None
    assert said == []


def test_the_settings_of_the_study_are_saved_from_the_page(opened):
    page, _, _ = opened
    with page.expect_download() as waiting:
        page.locator("a[download]").click()
    assert waiting.value.suggested_filename == "report.yaml"
    assert "experiments:" in waiting.value.path().read_text(encoding="utf-8")


def test_the_command_can_be_copied(opened):
    page, _, _ = opened
    page.locator("button[data-copy]").click()
    assert page.locator("button[data-copy]").inner_text() == "copied"


def test_contents_mark_where_the_reader_is(opened):
    page, _, _ = opened
    marked = page.locator("nav.contents a[aria-current]")
    assert marked.all_inner_texts() == ["Answer"]
    page.evaluate("document.getElementById('clusters').scrollIntoView({behavior: 'instant'})")
    page.wait_for_timeout(200)
    assert marked.all_inner_texts() == ["Clusters"]


def test_the_first_key_leads_to_the_content_and_focus_is_seen(opened):
    page, _, _ = opened
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to the content"
    assert focused.bounding_box()["x"] >= 0
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_everything_can_be_read_without_scripts(browser, index):
    with browser.new_context(java_script_enabled=False, viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        page.goto(index.as_uri())
        assert page.locator(".plot").first.is_hidden()
        assert page.locator("body").inner_text().count("This figure is drawn by JavaScript. In words:") >= 5
        folded = page.locator("details table")
        assert folded.count() >= 5
        assert all(table.is_visible() for table in folded.all())
        shown = page.locator("button").all()
        assert not any(button.is_visible() for button in shown)


def test_a_page_is_small_and_opens_at_once(opened, index):
    page, _, _ = opened
    assert index.stat().st_size < MOST_BYTES
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert first < 1000 * OPENS_S
