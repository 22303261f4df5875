// A run that is followed: the page asks for news once a second while it is looked at, so nothing runs behind a closed tab.
const SURE_FOR_MS = 5000, LOST_AFTER_MS = 20000;

function render({ model, el: host }) {
  const root = el("div", { class: "mcn watch" });
  host.append(root);
  const parts = { head: el("div", { class: "row" }), bar: el("div"), facts: el("dl"), notes: el("div"), charts: el("div", { class: "charts" }), recall: el("div", { class: "scroll" }) };
  const charts = new Map();
  let sureUntil = 0, waitingSince = null, timer = null, lost = false;
  const stop = el("button", { type: "button", class: "danger push", onclick: askToStop });
  const title = el("h3"), chip = el("span", { class: "chip", role: "status" }), who = el("span", { class: "quiet" });
  parts.head.append(title, chip, who, stop);
  root.append(parts.head, parts.bar, parts.facts, parts.notes, parts.charts, parts.recall);
  const endTheme = followTheme(root);

  function askToStop() {
    if (Date.now() < sureUntil) {
      sureUntil = 0;
      model.send({ kind: "stop" });
    } else {
      sureUntil = Date.now() + SURE_FOR_MS;
      setTimeout(drawStop, SURE_FOR_MS + 50);
    }
    drawStop();
  }

  function drawStop() {
    const view = model.get("view"), sure = Date.now() < sureUntil;
    stop.hidden = !view.can_stop;
    stop.disabled = Boolean(view.stop_asked);
    stop.className = `${sure ? "sure" : "danger"} push`;
    stop.textContent = view.stop_asked ? "Stopping after a checkpoint …" : sure ? "Really stop? Click again" : "Stop after a checkpoint";
    stop.title = "The run ends after a checkpoint; the same command goes on from there";
  }

  function fact(name, value, note, kind) {
    return el("div", {}, el("dt", {}, name), el("dd", { class: kind }, value, note ? el("small", {}, ` ${note}`) : null));
  }

  function draw() {
    const view = model.get("view"), live = view.state !== undefined;
    drawStop();
    if (live) {
      title.textContent = view.title;
      title.title = view.path;
      if (chip.textContent !== view.state_words) chip.textContent = view.state_words;
      chip.className = `chip ${{ finished: "good", failed: "bad", interrupted: "bad", killed: "bad" }[view.state] ?? ""}`;
      who.textContent = view.holder ? `held by ${view.holder}` : "";
      const share = view.total ? Math.min(1, view.step / view.total) : null;
      const bar = el("div", { class: "bar", role: "progressbar", "aria-label": "steps done", "aria-valuemin": 0, "aria-valuemax": view.total ?? 0, "aria-valuenow": view.step }, el("div", { style: `width:${100 * (share ?? 0)}%` }));
      parts.bar.replaceChildren(share === null ? "" : bar);
      parts.facts.replaceChildren(
        fact("steps", view.step.toLocaleString("en"), view.total ? `of ${view.total.toLocaleString("en")}` : ""),
        fact("time left", view.state === "running" ? duration(view.left_s) : "–", view.state === "running" && view.left_s !== null ? "of training" : ""),
        fact("throughput", view.clips_per_s === null ? "–" : short(view.clips_per_s, 2), "clips/s"),
        fact("stage", view.stage || "–"),
        fact("finite", view.finite, "", view.broken ? "bad" : view.step ? "good" : ""),
      );
      const notes = [view.silent_s ? ["quiet", `No new step for ${duration(view.silent_s)}.`] : null, view.reason && view.state !== "finished" ? ["quiet", view.reason] : null, view.problem ? ["problem", view.problem] : null, lost ? ["problem", "The kernel does not answer; what is shown may be old."] : null];
      parts.notes.replaceChildren(...notes.filter(Boolean).map(([kind, words]) => el("p", { class: kind, role: kind === "problem" ? "alert" : undefined }, words)));
      drawRecall(view.recall ?? []);
    } else {
      parts.head.hidden = parts.facts.hidden = true;
    }
    for (const panel of view.panels ?? []) {
      if (!charts.has(panel.title)) {
        charts.set(panel.title, new Chart(panel.title, panel.unit));
        parts.charts.append(charts.get(panel.title).node);
        parts.charts.classList.toggle("one", charts.size === 1);
      }
      charts.get(panel.title).show(panel.lines, view.marks ?? []);
    }
  }

  function drawRecall(rows) {
    if (!rows.length) return parts.recall.replaceChildren();
    const cells = rows.map((row) => el("tr", {}, el("th", { class: "words", scope: "row" }, row.subject), el("td", {}, short(row.first)), el("td", {}, short(row.ten)), el("td", {}, short(row.chance))));
    const head = ["direction", "recall at 1", "recall at 10", "chance at 1"].map((name, place) => el("th", { scope: "col", class: place ? undefined : "words" }, name));
    parts.recall.replaceChildren(el("h4", {}, "Held-out retrieval, larger is better"), el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, cells)));
  }

  function poll() {
    if (model.get("view").state === undefined) return;
    if (waitingSince === null && root.isConnected && !document.hidden) {
      waitingSince = Date.now();
      model.send({ kind: "poll" });
    }
    const late = waitingSince !== null && Date.now() - waitingSince > LOST_AFTER_MS;
    if (late !== lost) { lost = late; draw(); }
    timer = setTimeout(poll, model.get("every_ms"));
  }

  const onNews = (message) => { if (message.kind === "news") waitingSince = null; };
  model.on("change:view", draw);
  model.on("msg:custom", onNews);
  draw();
  poll();
  return () => {
    clearTimeout(timer);
    endTheme();
    charts.forEach((chart) => chart.end());
    model.off("change:view", draw);
    model.off("msg:custom", onNews);
  };
}
export default { render };
