"""Faults of what pages show: captions, labels, ids and names that hold scripts stay words, and load nothing."""

import json
import shutil
from pathlib import Path

import pandas as pd

from tests.fake_study import ALL, FakeExperiment, write_fake_study
from tests.faults.registry import Trial, fault

PER_PAGE = 20
CONTROL = (0, 2, 12)
"""Payloads that must run on a page that shows them as they are: else a page that shows none proves nothing."""
PAYLOADS = (
    "<script>OWN</script>", "<img src=x onerror='OWN'>", "<svg onload='OWN'>", "\"><script>OWN</script>",
    "' onmouseover='OWN' x='", '" onfocus="OWN" autofocus x="', "</script><script>OWN</script>",
    "</title><script>OWN</script>", "</textarea><img src=x onerror=OWN>", "<a href='javascript:OWN'>go</a>",
    "<iframe srcdoc='<script>parent.OWN</script>'></iframe>", "<details open ontoggle='OWN'>x</details>",
    "<b onclick='OWN' onmouseenter='OWN'>bold</b>", "<img src='http://192.0.2.1/NUMBER.png'>",
    "<link rel=stylesheet href='http://192.0.2.1/NUMBER.css'>", "<style>@import 'http://192.0.2.1/NUMBER';</style>",
    "{{ OWN }}{% OWN %}${OWN}", "$\\unicode{x}$ $$\\href{javascript:OWN}{x}$$",
    "\\u003cscript\\u003eOWN\\u003c/script\\u003e",
    "&lt;script&gt;OWN&lt;/script&gt;<math><mi xlink:href='javascript:OWN'>x</mi></math>",
    "<meta http-equiv=refresh content='0;url=http://192.0.2.1/NUMBER'>", "<base href='http://192.0.2.1/'>",
    "<video src=x onerror='OWN'></video>", "<object data='javascript:OWN'></object>", "--><script>OWN</script><!--",
)  # fmt: skip
"""`OWN` becomes code that leaves the payload's number in the page."""
WALK = """async () => {
    const wait = (ms) => new Promise((done) => setTimeout(done, ms));
    for (const one of document.querySelectorAll('summary, button, th, [role=tab], select, label')) {
        if (!one.closest('a')) { one.click(); await wait(2); }
    }
    for (const one of document.querySelectorAll('.point, td, .words, text, .legendtext, figure')) {
        for (const kind of ['mouseover', 'mouseenter', 'mousemove', 'click'])
            one.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true}));
    }
    await wait(300);
    return window.__owned || [];
}"""


def payload(number: int) -> str:
    """A text that would leave its number in the page."""
    words = PAYLOADS[number % len(PAYLOADS)].replace("NUMBER", str(number))
    return words.replace("OWN", f"(window.__owned=window.__owned||[]).push({number})")


def page(folder: Path, numbers: range) -> Path:
    """A report in which payloads stand as captions, labels, ids and names of experiments, and say their numbers."""
    from mcnlab.reporting.pages import write_report

    names = tuple(FakeExperiment(payload(number)[:120], ALL) for number in list(numbers)[::7])
    runs = write_fake_study(folder / "runs", experiments=names, seeds=(0,), clips=40)
    for run in runs.iterdir():
        clips = pd.read_parquet(run / "clips.parquet")
        texts = [payload(numbers[row % PER_PAGE]) for row in range(len(clips))]
        clips["caption"], clips["label"] = texts, texts
        clips["id"] = [f"{row}{text}" for row, text in enumerate(texts)]
        clips.to_parquet(run / "clips.parquet")
    return write_report(runs, folder / "report", title=payload(numbers[0]), question=payload(numbers[1]))


def looked_at(folder: Path, numbers: range) -> dict[str, list[object]]:
    """What a browser did with such a report: numbers of payloads that ran, and what it asked the network for."""
    from playwright.sync_api import sync_playwright

    from tests.test_reporting_browser import ALL_DRAWN, CHROMIUM, FLAGS

    index = page(folder, numbers)
    asked: list[object] = []
    owned: list[object] = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True)
        control = context.new_page()
        control.set_content("".join(payload(number) for number in CONTROL))
        assert control.evaluate(WALK), "payloads do nothing even on a page that shows them as they are"
        control.close()
        for path in [index, *sorted(index.parent.rglob("*.html"))]:
            tab = context.new_page()
            tab.on("request", lambda request: asked.append(request.url))
            tab.on("dialog", lambda dialog: dialog.dismiss())
            tab.goto(path.as_uri())
            tab.wait_for_function(ALL_DRAWN, timeout=90_000)
            for point in tab.locator(".plot .point").all()[:12]:
                point.hover(force=True, timeout=2_000)
            owned += tab.evaluate(WALK)
            tab.close()
        browser.close()
    outside = [url for url in asked if not str(url).startswith(("file:", "data:", "blob:"))]
    return {"owned": owned, "asked": outside}


@fault(
    "script-captions",
    "scripts, handlers, links, styles as captions, labels, ids, names of experiments and titles of a report",
    "none executed and nothing asked for in Chromium, with hover and click on everything",
    trials=100,
    few=1,
)
def script_caption(trial: Trial) -> str:
    """One payload; a page holds many, and is looked at once."""
    from tests.test_reporting_browser import CHROMIUM

    if CHROMIUM is None:
        return "not tried: no Chromium"
    batch = trial.number // PER_PAGE
    known = trial.shared / f"page-{batch}.json"
    if not known.exists():
        folder = trial.shared / f"page-{batch}"
        folder.mkdir(exist_ok=True)
        found = looked_at(folder, range(batch * PER_PAGE, (batch + 1) * PER_PAGE))
        known.write_text(json.dumps(found))
        shutil.rmtree(folder)
    found = json.loads(known.read_text())
    assert trial.number not in found["owned"], f"was executed: {payload(trial.number)}"
    assert not found["asked"], f"a page asked for {found['asked'][0]}"
    return "shown as words"
