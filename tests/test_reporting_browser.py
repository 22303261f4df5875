"""A report in headless Chromium, opened as a file with the network refused."""

import shutil

import pytest

from mcnlab.reporting.pages import write_report
from tests.fake_study import DEFAULT, write_fake_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
FEW = (DEFAULT[0], DEFAULT[3], DEFAULT[5])
ALL_DRAWN = "() => [...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn === 'yes')"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    study = write_fake_study(tmp_path_factory.mktemp("study"), experiments=FEW, seeds=(0, 1), clips=40)
    return write_report(study, tmp_path_factory.mktemp("report"), title="Report", question="Why?")


@pytest.fixture
def opened(index):
    """The index page with all figures drawn, what it asked for, and what the console said."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        asked, said = [], []
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(index.as_uri())
        page.wait_for_function(ALL_DRAWN, timeout=60_000)
        yield page, asked, said
        browser.close()


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
