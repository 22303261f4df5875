"""A JupyterLab that is used, widget by widget, and what became of the payloads that it shows."""

import traceback
from collections.abc import Callable
from typing import Any

from tests.faults.shown import PAYLOADS, payload

KINDS = len(PAYLOADS)
CAPTIONS, LABELS, NAMES, TERMS = (range(first * KINDS, (first + 1) * KINDS) for first in range(4))
"""Numbers of the payloads that are captions of clips, their labels and ids, names of experiments, terms of a log."""
KEY = 40
"""So many letters of a payload tell it from the others where a widget shortens it."""
LAB_MS = 60_000
BECAME_MARKUP = """() => {
    const found = [...window.__owned || []];
    const told = (text) => [...text.matchAll(/push\\((\\d+)\\)/g)].map((one) => Number(one[1]));
    for (const one of document.querySelectorAll('.jp-OutputArea *, .lm-Menu *')) {
        for (const {name, value} of one.attributes)
            if (/^on/.test(name) || /^\\s*javascript:/.test(value) || name === 'srcdoc')
                found.push(...told(value), value);
        if (['SCRIPT', 'STYLE'].includes(one.tagName) && /__owned|192\\.0\\.2/.test(one.textContent))
            found.push(...told(one.textContent), one.textContent);
        if (['META', 'BASE', 'OBJECT', 'MJX-CONTAINER'].includes(one.tagName)) found.push(one.outerHTML);
    }
    return found;
}"""
"""Numbers of payloads that ran, and whatever of them became an element or a handler, be it run or not."""
TOUCH = """async () => {
    const parts = 'summary, button, th, td, tr, text, li, path, label, figure, blockquote, dd, .mx-entry, .legendtext';
    const kinds = ['mouseover', 'mouseenter', 'mousemove', 'focusin', 'click'];
    const all = [...document.querySelectorAll(`.jp-OutputArea :is(${parts})`)];
    const other = 'a, .danger, .sure, .mx-clips tbody, .mx-near, .jupyter-button, .link';
    const left = all.filter((one) => !one.closest(other));
    for (const one of left.slice(0, 3000)) for (const kind of kinds)
        if (one.isConnected) one.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true}));
    await new Promise((done) => setTimeout(done, 400));
}"""


class Used:
    """A JupyterLab that is used, and what became of the payloads on the way."""

    def __init__(self, lab: Any) -> None:
        self.lab, self.page = lab, lab.page
        self.owned: list[Any] = []
        self.asked: list[str] = []
        self.read: dict[str, list[str]] = {}
        """By widget: the texts that it showed."""
        self.page.on("dialog", self._answer)
        self.page.context.on("request", lambda request: self._ask(request.url))
        self.page.on("websocket", lambda socket: self._ask(socket.url.replace("ws:", "http:")))

    def _answer(self, dialog: Any) -> None:
        """A dialog that is not JupyterLab's own was opened by a payload."""
        if dialog.type != "beforeunload":
            self.owned.append(dialog.message)
        dialog.accept()

    def _ask(self, url: str) -> None:
        """A request that leaves the loopback address."""
        if not url.startswith((self.lab.address, "data:", "blob:", "about:")):
            self.asked.append(url)

    def look(self) -> None:
        """Ask all pages and frames what of the payloads ran or became markup."""
        for page in self.page.context.pages:
            self.owned += [one for frame in page.frames for one in frame.evaluate(BECAME_MARKUP)]

    def keep(self, where: str, selector: str) -> None:
        """Keep the texts that a widget shows now."""
        self.read.setdefault(where, []).extend(self.page.locator(selector).all_text_contents())

    def open(self, notebook: str, until: str) -> None:
        """Run a notebook, and wait for its widget and for its last cell; every cell is drawn once."""
        self.lab.open(f"{notebook}.ipynb")
        self.lab.run_all()
        self.page.wait_for_selector(until, timeout=LAB_MS, state="attached")
        self.page.wait_for_selector('.jp-StatusBar-TextItem:has-text("| Idle")', timeout=LAB_MS)
        for cell in self.page.locator(".jp-Cell").all():
            cell.scroll_into_view_if_needed(timeout=10_000)
        self.page.locator(until).first.scroll_into_view_if_needed()
        assert not self.page.locator(".jp-RenderedText[data-mime-type*=error]").count(), f"{notebook} has an error"

    def through(self, use: Callable[["Used"], None]) -> str:
        """Use a widget; what kept from that is looked at, too, and told, and keeps nobody from the next widget."""
        try:
            use(self)
        except Exception:
            self.look()
            return traceback.format_exc(limit=-3)
        return ""

    def touch(self) -> None:
        """Point at, and click on, all that has no effect elsewhere."""
        self.page.evaluate(TOUCH)
        self.look()


def use_explorer(used: Used) -> None:
    """Point at clips and open them, color, lasso, search, sort, ask, compare neighbors."""
    from tests.test_explorer_browser import TABLE, choose, draw_lasso, open_tab, wait_for_maps

    page = used.page
    used.open("00_explore", ".mx-panel canvas")
    wait_for_maps(page)
    used.keep("menu", ".widget-dropdown option")
    for clip in range(KINDS):
        _look_at(used, clip)
    draw_lasso(page, 5, reach=20)  # within the map, wherever that clip is
    page.wait_for_function("() => !document.querySelector('.mx-clips caption').textContent.startsWith('40 of')")
    used.look()
    page.click('button:has-text("Clear selection")')
    page.wait_for_function("() => document.querySelector('.mx-clips caption').textContent.startsWith('40 of')")
    used.keep("table", f"{TABLE} tbody tr")
    used.touch()
    choose(page, "left run", f"{payload(NAMES[1])}, seed 0")
    wait_for_maps(page)
    for color in ("label", f"factor:vt.{payload(LABELS[1])}", "cluster (k-means)"):
        choose(page, "color by", color)
        page.wait_for_timeout(700)
        used.touch()
    choose(page, "color by", "label")
    page.wait_for_timeout(500)
    used.keep("legend", ".mx-entry")
    for head in page.locator(f"{TABLE} thead button:visible").all():
        head.click()
    page.fill('.widget-text:has(label:text-is("search")) input', "onerror")
    page.wait_for_function("() => !document.querySelector('.mx-clips caption').textContent.startsWith('40 of')")
    used.touch()
    open_tab(page, "Ask")
    page.fill('.widget-text:has(label:text-is("sentence")) input', payload(CAPTIONS[1]))
    page.keyboard.press("Enter")  # these runs have no model: the answer is an error with the run's name
    page.wait_for_timeout(3000)
    used.keep("asked", ".mcnlab-jobs .widget-label")
    used.look()
    choose(page, "ask with", "opened clip: its audio")
    page.click('button.jupyter-button:has-text("Ask")')
    page.wait_for_selector(f'{TABLE} caption:has-text("the clip itself has rank")', timeout=LAB_MS)
    used.keep("answer", f"{TABLE} caption")
    used.touch()
    open_tab(page, "Changed neighbors")
    page.wait_for_selector(f'{TABLE}:visible caption:has-text("changed most")', timeout=LAB_MS)
    used.touch()


def _look_at(used: Used, clip: int) -> None:
    """Point at a clip until its tip is there, and click on it until its card is; clips may still be on their way."""
    from playwright.sync_api import TimeoutError as NotYet

    from tests.test_explorer_browser import place_of

    page, words = used.page, payload(clip)
    tip = "(key) => document.querySelector('.mx-tip').textContent.includes(key)"
    card = "(words) => document.querySelector('.mx-card blockquote')?.textContent === words"
    for attempt in range(4):
        x, y = place_of(page, clip)
        try:
            page.mouse.move(x + 30, y + 30)
            page.mouse.move(x, y)
            page.wait_for_function(tip, arg=words[:KEY], timeout=3_000 * (attempt + 1))
            used.keep("tip", ".mx-tip")
            page.mouse.click(x, y)
            page.wait_for_function(card, arg=words, timeout=3_000 * (attempt + 1))
        except NotYet:
            continue
        used.keep("card", ".mx-card")
        return
    raise AssertionError(f"the tip or card of clip {clip} does not tell its caption: {words}")


def use_board(used: Used) -> None:
    """Sort, filter, choose a baseline, look at every tab, play a sound, open the page of a run."""
    page = used.page
    used.open("00_board", ".board-widget table.board tbody th")
    used.keep("board", ".board-widget table.board tbody th")
    used.touch()
    page.click(".board-widget [role=tab] >> nth=0")
    for head in page.locator("table.board thead button").all()[:8]:
        head.click()
    page.fill(".board-widget input[type=search]", "onerror")
    used.look()
    page.fill(".board-widget input[type=search]", "")
    page.select_option(".board-widget select[aria-label=Baseline]", payload(NAMES[3]))
    pinned = "(name) => document.querySelector('tbody.pinned th').firstChild.textContent === name"
    page.wait_for_function(pinned, arg=payload(NAMES[3]))
    page.select_option(".board-widget .controls select >> nth=0", "runs")
    with page.expect_popup() as popup:
        page.click("table.board button.link >> nth=0")
    popup.value.frame_locator("iframe").locator("pre").first.wait_for(timeout=LAB_MS, state="attached")
    used.look()
    popup.value.close()
    for number in range(1, 4):
        page.click(f".board-widget [role=tab] >> nth={number}")
        page.wait_for_timeout(1500)
        used.keep(f"board's tab {number}", ".board-widget [role=tabpanel]")
        used.touch()
    if page.locator(".board-widget .error button").count():
        page.click(".board-widget .error button >> nth=0")
        page.wait_for_timeout(1000)
    used.look()


def use_watch(used: Used) -> None:
    """Switch lines off and on, and read values with the keys."""
    page = used.page
    used.open("00_watch", ".mcn.watch polyline")
    page.click(".mcn.watch .keys button:has-text('with parts') >> nth=0")
    used.keep("watch", ".mcn.watch .keys button")
    for number in range(3):
        page.click(f".mcn.watch .keys button >> nth={number}")
        page.click(f".mcn.watch .keys button >> nth={number}")
    page.focus(".mcn.watch svg >> nth=0")
    page.keyboard.press("ArrowRight")
    for where in ("h3", "dl", ".readout >> nth=0"):
        used.keep(f"watch {where}", f".mcn.watch {where}")
    used.touch()
