// All runs side by side: a table to sort and filter, parallel coordinates, differences, and who errs where.
const HARD_TO_ASK = 120000;

function render({ model, el: host }) {
  const root = el("div", { class: "mcn board-widget" });
  host.append(root);
  const endTheme = followTheme(root);
  const state = { tab: "table", rows: "experiments", sort: null, down: true, words: "", status: "", hidden: new Set(), least: {}, deltas: true, chosen: new Set(), column: null, errors: {} };
  const view = () => model.get("view");
  const asked = new Map();
  let counter = 0;

  // -- talking to the kernel
  function ask(kind, content, then) {
    const number = ++counter;
    asked.set(number, then);
    setTimeout(() => { if (asked.delete(number)) say("The kernel does not answer; it may be at work on another cell."); }, HARD_TO_ASK);
    model.send({ kind, number, ...content });
  }
  function onAnswer(message) {
    const then = asked.get(message.number);
    if (!then) return;
    asked.delete(message.number);
    say(message.problem ?? "");
    then(message);
  }
  model.on("msg:custom", onAnswer);
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  function say(words) { problem.textContent = words; problem.hidden = !words; }

  // -- frame
  const title = el("h3"), baseline = el("select", { "aria-label": "Baseline" }), refresh = el("button", { type: "button" }, "Refresh");
  const tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "Views of the board" }), panel = el("div", { role: "tabpanel", tabindex: "-1" });
  root.append(el("div", { class: "row" }, title, el("label", { class: "push" }, "baseline", baseline), refresh), tabs, problem, panel);
  const TABS = { table: ["Table", drawTable], parallel: ["Parallel coordinates", drawParallel], differences: ["Differences", drawDifferences], errors: ["Errors of A and B", drawErrors] };
  for (const [key, [words]] of Object.entries(TABS))
    tabs.append(el("button", { type: "button", role: "tab", "data-tab": key, onclick: () => { state.tab = key; draw(); } }, words));
  tabs.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], all = [...tabs.children];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const next = all[(all.findIndex((one) => one.dataset.tab === state.tab) + by + all.length) % all.length];
    next.click();
    next.focus();
  });
  baseline.addEventListener("change", () => busy(baseline, "baseline", { name: baseline.value }));
  refresh.addEventListener("click", () => busy(refresh, "refresh", {}));

  function busy(node, kind, content) {
    node.disabled = true;
    root.setAttribute("aria-busy", "true");
    if (node === refresh) node.textContent = "Reading …";
    ask(kind, content, () => { node.disabled = false; refresh.textContent = "Refresh"; root.removeAttribute("aria-busy"); });
  }

  function choices(select, values, chosen) {
    select.replaceChildren(...values.map(([value, words]) => el("option", { value, selected: value === chosen }, words)));
    select.value = chosen;
    return select;
  }
  const select = (words, values, chosen, then) => {
    const made = choices(el("select"), values, chosen);
    made.addEventListener("change", () => then(made.value));
    return el("label", {}, words, made);
  };

  function draw() {
    const now = view(), runs = now.runs.length;
    title.textContent = `${now.title}: ${now.experiments.length} experiments, ${runs} runs`;
    choices(baseline, now.experiments.map((row) => [row.name, row.name]), now.baseline);
    for (const tab of tabs.children) {
      tab.setAttribute("aria-selected", String(tab.dataset.tab === state.tab));
      tab.tabIndex = tab.dataset.tab === state.tab ? 0 : -1;
    }
    panel.setAttribute("aria-label", TABS[state.tab][0]);
    panel.replaceChildren();
    TABS[state.tab][1](now);
  }

  // -- rows
  const columns = (now) => now.columns.filter((column) => !state.hidden.has(column.title));
  const value = (row, key) => (key in META ? META[key](row) : row.cells[key]?.v ?? null);
  const META = { name: (row) => `${row.name}\u0000${row.seed}`, seed: (row) => row.seed, state: (row) => row.state, steps: (row) => row.steps, train: (row) => row.train_s, loss: (row) => row.spark.at(-1) ?? null };
  function kept(now) {
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = now[state.rows].filter((row) => {
      const text = `${row.name} ${row.what} seed ${row.seed} ${row.state} ${row.reason} ${row.note}`.toLowerCase();
      const enough = Object.entries(state.least).every(([title, least]) => (row.cells[title]?.v ?? -Infinity) >= least);
      return words.every((word) => text.includes(word)) && (!state.status || row.state === state.status) && enough;
    });
    if (state.sort === null) return rows;
    const order = (a, b) => {
      const [x, y] = [value(a, state.sort), value(b, state.sort)];
      if (x === null || y === null) return (x === null) - (y === null); // what is missing stays below
      return (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y) * (state.down ? -1 : 1);
    };
    return [...rows].sort(order);
  }
  const isBaseline = (now, row) => row.name === now.baseline;

  function difference(now, row, titleOf) {
    if (isBaseline(now, row)) return null;
    if (state.rows === "experiments") return now.differences[row.name]?.[titleOf] ?? null;
    const same = now.runs.find((one) => one.name === now.baseline && one.seed === row.seed)?.cells[titleOf], own = row.cells[titleOf];
    return same && own ? { d: own.v - same.v, clear: false } : null;
  }

  // -- table
  function drawTable(now) {
    const search = el("input", { type: "search", placeholder: "name, term, state, seed 0", "aria-label": "Filter rows by words", value: state.words });
    search.addEventListener("input", () => { state.words = search.value; fill(); });
    const states = [...new Set(now[state.rows].map((row) => row.state))];
    const deltas = el("input", { type: "checkbox", checked: state.deltas });
    deltas.addEventListener("change", () => { state.deltas = deltas.checked; fill(); });
    const count = el("span", { class: "quiet", role: "status" });
    panel.append(el("div", { class: "controls" },
      select("rows", [["experiments", "experiments (mean over seeds)"], ["runs", "single runs"]], state.rows, (chosen) => { state.rows = chosen; draw(); }),
      el("label", {}, "filter", search),
      select("state", [["", "any"], ...states.map((one) => [one, one])], states.includes(state.status) ? state.status : "", (chosen) => { state.status = chosen; fill(); }),
      el("label", {}, deltas, "differences from baseline"), count), columnChooser(now, () => fill()));
    const table = el("table", { class: "board" }), scroll = el("div", { class: "board-scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, table);
    const frame = el("div", { class: "board-frame" }, scroll), further = el("p", { class: "quiet further", hidden: true }, "More columns to the right: scroll, or hold Shift and turn the wheel. Columns can be hidden above.");
    const edge = () => {
      const left = scroll.scrollWidth - scroll.clientWidth - scroll.scrollLeft;
      frame.classList.toggle("more", left > 2);
      further.hidden = scroll.scrollWidth - scroll.clientWidth <= 2;
    };
    scroll.addEventListener("scroll", edge, { passive: true });
    new ResizeObserver(edge).observe(scroll); // ends with the element
    panel.append(further, frame, el("p", { class: "quiet" }, state.rows === "experiments"
      ? "Mean ± half the 95 % interval. Shaded: best mean of the column; underlined: no paired test tells it from the best. Colored: difference from the baseline over equal seeds; * it stands (p < 0.05, Holm)."
      : "Each run's own value. Shaded: best of the column; underlined: its own 95 % interval over clips reaches the best. Colored: difference from the baseline's run with the same seed."));
    function fill() {
      const now = view(), rows = kept(now), shown = columns(now);
      const pinned = now[state.rows].filter((row) => isBaseline(now, row)), others = rows.filter((row) => !isBaseline(now, row));
      count.textContent = `${rows.length} of ${now[state.rows].length} shown`;
      const focused = table.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      const heads = [["name", state.rows === "runs" ? "run" : "experiment", true], ["seed", state.rows === "runs" ? "seed" : "seeds", false], ["state", "state", true], ["steps", "steps", false], ["train", "training", false], ["loss", "loss", false], ...shown.map((column) => [column.title, column.title, false, column.task])];
      const head = el("tr", {}, heads.map(([key, words, text, task]) => el("th", { scope: "col", class: text ? "words" : undefined, "aria-sort": state.sort === key ? (state.down ? "descending" : "ascending") : undefined },
        el("button", { type: "button", "data-key": key, title: task ? `Sort by ${words} (${task})` : `Sort by ${words}`, onclick: () => sortBy(key, text, fill) }, words, state.sort === key ? (state.down ? " ↓" : " ↑") : ""))), state.rows === "runs" ? el("th", { scope: "col", class: "words" }, el("span", { style: "padding:4px 8px" }, "open")) : null);
      table.replaceChildren(el("caption", { hidden: true }, "All runs"), el("thead", {}, head), el("tbody", { class: "pinned" }, pinned.map((row) => tableRow(now, row, shown))), el("tbody", {}, others.map((row) => tableRow(now, row, shown))));
      if (focused) [...table.querySelectorAll("thead button")].find((one) => one.dataset.key === focused)?.focus();
      edge();
    }
    fill();
  }

  function sortBy(key, text, then) {
    if (state.sort === key) state.down = !state.down;
    else Object.assign(state, { sort: key, down: !text });
    then();
  }

  function columnChooser(now, then) {
    const boxes = now.columns.map((column) => {
      const shown = el("input", { type: "checkbox", checked: !state.hidden.has(column.title) });
      shown.addEventListener("change", () => { if (!state.hidden.delete(column.title)) state.hidden.add(column.title); then(); });
      const least = el("input", { type: "number", step: "any", placeholder: "at least", "aria-label": `${column.title} at least`, value: state.least[column.title] ?? "" });
      least.addEventListener("input", () => { if (least.value === "" || Number.isNaN(+least.value)) delete state.least[column.title]; else state.least[column.title] = +least.value; then(); });
      return el("div", {}, el("label", {}, shown, column.title), least);
    });
    return el("details", {}, el("summary", {}, "Columns, and least values"), el("div", { class: "columns" }, boxes));
  }

  function tableRow(now, row, shown) {
    const notes = [row.what, row.note, row.state === "finished" ? "" : row.reason].filter(Boolean);
    const name = el("th", { scope: "row", style: `--family:${row.color}`, title: notes.join(" · ") }, row.name, isBaseline(now, row) ? el("small", {}, "baseline") : null, notes.length ? el("small", {}, notes.join(" · ").slice(0, 90)) : null);
    const state_ = el("td", { class: `words ${row.state === "failed" || row.state === "interrupted" ? "bad" : ""}` }, row.state);
    const cells = shown.map((column) => {
      const cell = row.cells[column.title];
      if (!cell) return el("td", { class: "quiet" }, "–");
      const half = state.rows === "experiments" && cell.low !== null && cell.high !== null ? (cell.high - cell.low) / 2 : null;
      const change = state.deltas ? difference(now, row, column.title) : null;
      const words = { best: "best", tied: "not told from the best" }[cell.mark];
      return el("td", { class: cell.mark || undefined, title: words }, fixed(cell.v), half === null ? null : el("small", { style: "display:inline" }, ` ±${fixed(half)}`),
        change ? el("small", { class: change.d > 0 ? "up" : change.d < 0 ? "down" : undefined }, `${change.d > 0 ? "+" : ""}${fixed(change.d)}${change.clear ? " *" : ""}`) : null);
    });
    return el("tr", {}, name, el("td", {}, row.seed), state_, el("td", {}, row.steps.toLocaleString("en")), el("td", {}, row.train_s === null ? "–" : duration(row.train_s)), el("td", {}, sparkline(row.spark)), cells, state.rows === "runs" ? el("td", { class: "words" }, opened(now, row)) : null);
  }

  const fixed = (number) => number.toFixed(3).replace("-", "−");

  function sparkline(values) {
    if (values.length < 2) return "–";
    const low = Math.min(...values), high = Math.max(...values), size = high - low || 1;
    const points = values.map((one, place) => `${(1 + (place * 82) / (values.length - 1)).toFixed(1)},${(22 - (20 * (one - low)) / size).toFixed(1)}`);
    const words = `loss from ${short(values[0])} to ${short(values.at(-1))}`;
    return svg("svg", { class: "spark", viewBox: "0 0 84 24", role: "img", "aria-label": words }, svg("title", {}, words), svg("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1.3 }));
  }

  function opened(now, row) {
    if (!row.notebook) return "–";
    const parts = [], path = underRoot(now, row.notebook);
    if (path !== null) {
      const address = `${jupyter().baseUrl ?? "/"}lab/tree/${path.split("/").map(encodeURIComponent).join("/")}`;
      parts.push(el("a", { href: address, target: "_blank", "data-commandlinker-command": "docmanager:open", "data-commandlinker-args": JSON.stringify({ path }), title: `Open ${path} in a tab of JupyterLab` }, "notebook"), " ");
    }
    parts.push(el("button", { type: "button", class: "link", title: path === null ? "Show the executed notebook as a page; it lies outside of the folder that JupyterLab shows" : "Show the executed notebook as a page in a new browser tab", onclick: (event) => showPage(event.currentTarget, row) }, "page"));
    return parts;
  }

  function jupyter() {
    try { return JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}"); } catch { return {}; }
  }

  function underRoot(now, path) { // where a file lies for JupyterLab; null when it cannot open it
    const root = (jupyter().serverRoot ?? "").replace(/^~(?=\/|$)/, now.home).replace(/\/$/, "");
    return root && path.startsWith(`${root}/`) ? path.slice(root.length + 1) : null;
  }

  function showPage(button, row) {
    const tab = window.open("", "_blank");
    if (!tab) return say("The browser did not allow a new tab.");
    tab.document.title = row.id;
    tab.document.body.textContent = "Making the page …";
    button.disabled = true;
    ask("page", { run: row.id }, (answer) => {
      button.disabled = false;
      if (answer.problem) return tab.close();
      const frame = tab.document.createElement("iframe"); // a place of its own: nothing in it reaches JupyterLab
      frame.setAttribute("sandbox", "allow-scripts allow-downloads");
      frame.setAttribute("title", row.id);
      frame.style.cssText = "position:fixed;inset:0;width:100%;height:100%;border:0;background:white";
      frame.srcdoc = answer.html;
      tab.document.body.replaceChildren(frame);
    });
  }

  // -- parallel coordinates
  function drawParallel(now) {
    panel.append(el("div", { class: "controls" }, select("rows", [["experiments", "experiments (mean over seeds)"], ["runs", "single runs"]], state.rows, (chosen) => { state.rows = chosen; state.chosen.clear(); draw(); }), el("span", { class: "quiet" }, "The filter and the columns of the table hold here, too. Up is better.")), columnChooser(now, () => plot()));
    const holder = el("div", { class: "parallel" }), legend = el("ul", { class: "legend" });
    panel.append(holder, legend);
    function plot() {
      const now = view(), rows = kept(now), width = Math.max(320, holder.clientWidth || root.clientWidth), height = 330, top = 92, bottom = 26, side = 34;
      const axes = columns(now).map((column) => {
        const values = rows.map((row) => row.cells[column.title]?.v).filter((one) => one !== undefined);
        return { title: column.title, low: Math.min(...values), high: Math.max(...values), some: values.length };
      }).filter((axis) => axis.some);
      holder.replaceChildren();
      legend.replaceChildren();
      if (axes.length < 2 || !rows.length) return holder.append(el("p", { class: "quiet" }, "At least two columns and one row are needed."));
      const x = (place) => side + (place * (width - 2 * side)) / (axes.length - 1);
      const y = (axis, one) => (axis.high === axis.low ? (top + height - bottom) / 2 : height - bottom - ((one - axis.low) / (axis.high - axis.low)) * (height - bottom - top));
      const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, style: `height:${height}px`, role: "img", "aria-label": `Parallel coordinates of ${rows.length} rows over ${axes.length} columns; the table has the numbers` });
      axes.forEach((axis, place) => {
        drawing.append(svg("line", { class: "grid", x1: x(place), x2: x(place), y1: top, y2: height - bottom }));
        drawing.append(svg("text", { transform: `translate(${x(place)} ${top - 20}) rotate(-35)` }, axis.title));
        drawing.append(svg("text", { class: "end", x: x(place), y: top - 6, "text-anchor": "middle" }, axis.high.toFixed(2)), svg("text", { class: "end", x: x(place), y: height - bottom + 14, "text-anchor": "middle" }, axis.low.toFixed(2).replace("-", "−")));
      });
      const lines = rows.map((row, number) => {
        let pen = "M";
        const steps = axes.map((axis, place) => {
          const one = row.cells[axis.title]?.v;
          if (one === undefined) { pen = "M"; return ""; }
          const step = `${pen}${x(place).toFixed(1)} ${y(axis, one).toFixed(1)}`;
          pen = "L";
          return step;
        });
        const dash = ["", "7 3", "2 3", "9 3 2 3"][number % 4];
        const line = svg("path", { d: steps.join(""), stroke: row.color, "stroke-dasharray": dash || undefined, "data-row": row.id }, svg("title", {}, row.id));
        line.addEventListener("pointerenter", () => light(row.id));
        line.addEventListener("pointerleave", () => light(null));
        drawing.append(line);
        return [row, line];
      });
      function light(over) {
        const lit = over === null ? state.chosen : new Set([over]);
        for (const [row, line] of lines) {
          line.classList.toggle("faded", lit.size > 0 && !lit.has(row.id));
          line.classList.toggle("strong", lit.has(row.id) || (!lit.size && isBaseline(now, row)));
        }
      }
      legend.append(...lines.map(([row]) => {
        const key = el("button", { type: "button", "aria-pressed": String(state.chosen.has(row.id)), onclick: () => { if (!state.chosen.delete(row.id)) state.chosen.add(row.id); key.setAttribute("aria-pressed", String(state.chosen.has(row.id))); light(null); } }, el("i", { style: `background:${row.color}` }), row.id, isBaseline(now, row) ? " (baseline)" : "");
        key.addEventListener("focus", () => light(row.id));
        key.addEventListener("pointerenter", () => light(row.id));
        for (const end of ["blur", "pointerleave"]) key.addEventListener(end, () => light(null));
        return el("li", {}, key);
      }));
      holder.append(drawing);
      light(null);
    }
    again = plot;
    plot();
  }

  // -- differences
  function drawDifferences(now) {
    const titles = now.columns.map((column) => column.title);
    const compared = (title) => now.experiments.some((row) => now.differences[row.name]?.[title]);
    if (!titles.includes(state.column)) state.column = titles.find(compared) ?? titles[0] ?? null;
    if (state.column === null) return panel.append(el("p", { class: "quiet" }, "Nothing was measured yet."));
    panel.append(el("div", { class: "controls" }, select("column", titles.map((one) => [one, one]), state.column, (chosen) => { state.column = chosen; draw(); }), el("span", { class: "quiet" }, `each experiment minus ${now.baseline}, over equal seeds`)));
    const rows = now.experiments.map((row) => [row, now.differences[row.name]?.[state.column]]).filter(([, one]) => one).sort((a, b) => b[1].d - a[1].d);
    if (!rows.length) return panel.append(el("p", { class: "quiet" }, `Nothing can be held against ${now.baseline} in this column: it has no value there, or no finished seed in common.`));
    const reach = Math.max(...rows.flatMap(([, one]) => [one.d, one.low ?? one.d, one.high ?? one.d].map(Math.abs))) || 1;
    const place = (one) => 200 + (one / reach) * 190;
    const body = rows.map(([row, one]) => {
      const color = one.clear ? "#0072B2" : "currentColor";
      const picture = svg("svg", { viewBox: "0 0 400 24", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("line", { class: "grid", x1: 200, x2: 200, y1: 0, y2: 24 }), one.low === null ? null : svg("line", { x1: place(one.low), x2: place(one.high), y1: 12, y2: 12, stroke: color, "stroke-width": 2 }), svg("line", { x1: place(one.d), x2: place(one.d), y1: 5, y2: 19, stroke: color, "stroke-width": one.clear ? 5 : 2.5 }));
      const interval = one.low === null ? "one seed, no interval" : `${fixed(one.low)} to ${fixed(one.high)}`;
      return el("tr", {}, el("th", { class: "words", scope: "row" }, row.name), el("td", { class: "plot" }, picture), el("td", {}, `${one.d > 0 ? "+" : ""}${fixed(one.d)}${one.clear ? " *" : ""}`), el("td", {}, interval), el("td", {}, one.p === null ? "–" : one.p < 0.001 ? "< 0.001" : fixed(one.p)), el("td", {}, String(one.seeds)));
    });
    const head = ["experiment", el("div", { class: "ends" }, el("span", {}, `−${reach.toPrecision(2)}`), el("span", {}, "0"), el("span", {}, reach.toPrecision(2))), "difference", "95 % interval", "p, Holm", "seeds"].map((words, number) => el("th", { scope: "col", class: number === 0 ? "words" : undefined }, words));
    panel.append(el("div", { class: "scroll" }, el("table", { class: "forest" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body))), el("p", { class: "quiet" }, "Paired tests over the same seeds and, for recall, the same clips; * and blue: it stands (p < 0.05 after Holm's correction per column)."));
  }

  // -- errors of A and B
  function drawErrors(now) {
    const names = now.runs.filter((row) => now.asked[row.id]).map((row) => row.id), chosen = state.errors;
    if (names.length < 2) return panel.append(el("p", { class: "quiet" }, "Two runs with measured retrieval are needed."));
    const score = (name) => now.runs.find((row) => row.id === name).cells[now.columns[0]?.title]?.v ?? -1;
    const first = [...names].sort((a, b) => score(b) - score(a)).find((one) => !one.startsWith(`${now.baseline}, seed`)) ?? names[0];
    if (!names.includes(chosen.first)) chosen.first = first;
    if (!names.includes(chosen.second)) chosen.second = names.find((one) => one.startsWith(`${now.baseline}, seed`) && one !== chosen.first) ?? names.find((one) => one !== chosen.first);
    const common = () => now.directions.filter((one) => now.asked[chosen.first]?.includes(one.name) && now.asked[chosen.second]?.includes(one.name));
    if (!common().some((one) => one.name === chosen.direction)) chosen.direction = (common().find((one) => one.name === "text->video") ?? common()[0])?.name;
    chosen.k ??= "1";
    const options = names.map((one) => [one, one]), change = (key) => (to) => { chosen[key] = to; chosen.found = null; draw(); };
    const swap = el("button", { type: "button", onclick: () => { [chosen.first, chosen.second] = [chosen.second, chosen.first]; chosen.found = null; draw(); } }, "Swap A and B");
    panel.append(el("div", { class: "controls" }, select("A, right", options, chosen.first, change("first")), select("B, wrong", options, chosen.second, change("second")), swap,
      select("direction", common().map((one) => [one.name, one.short]), chosen.direction, change("direction")), select("right means among the first", [["1", "1"], ["5", "5"], ["10", "10"]], chosen.k, change("k"))));
    const place = el("div", { "aria-live": "polite" });
    panel.append(place);
    if (!chosen.direction) return place.append(el("p", { class: "quiet" }, "A and B share no direction."));
    if (chosen.found) return showErrors(place, now, chosen);
    place.append(el("p", { class: "quiet" }, "Comparing …"));
    const question = { first: chosen.first, second: chosen.second, direction: chosen.direction, k: chosen.k };
    ask("errors", question, (answer) => {
      const same = Object.entries(question).every(([key, one]) => chosen[key] === one);
      if (!same) return;
      if (answer.problem) return place.replaceChildren();
      chosen.found = answer.errors;
      if (state.tab === "errors") { place.replaceChildren(); showErrors(place, now, chosen); }
    });
  }

  function showErrors(place, now, chosen) {
    const { counts, rows, queries } = chosen.found;
    const count = (number, words) => el("span", {}, el("b", {}, String(number)), ` ${words}`);
    place.append(el("div", { class: "counts" }, count(counts.first, "only A is right"), count(counts.second, "only B is right"), count(counts.both, "both are right"), count(counts.neither, "neither is right"), el("span", { class: "quiet" }, `of ${queries} queries`)));
    if (!rows.length) return place.append(el("p", { class: "quiet" }, "There is no query that A answers and B does not."));
    if (rows.length < counts.first) place.append(el("p", { class: "quiet" }, `The ${rows.length} where B is furthest off:`));
    const clip = (one, words, run) => el("div", { class: "clip" }, el("div", { class: "head" }, words), one.picture ? el("img", { src: one.picture, alt: one.caption || one.id, loading: "lazy" }) : null, el("div", {}, one.caption || one.id), el("div", { class: "quiet" }, one.id), now.media ? player(one, run) : null);
    place.append(el("div", { class: "errors" }, rows.map((row) => el("div", { class: "error" },
      clip(row.clip, `right clip: place ${row.first} in A, ${row.second} in B`, chosen.first),
      row.instead ? clip(row.instead, "B returned instead", chosen.second) : el("div", { class: "clip quiet" }, "What B returned cannot be told from its embeddings.")))));
  }

  function player(one, run) {
    const holder = el("div"), button = el("button", { type: "button", "aria-label": `Play ${one.id}` }, "▶ play");
    holder.append(button);
    button.addEventListener("click", () => {
      button.disabled = true;
      ask("sound", { run, clip: one.id }, (answer) => {
        if (answer.problem) { button.disabled = false; return; }
        if (!answer.sound) return holder.replaceChildren(el("span", { class: "quiet" }, "no sound"));
        const audio = el("audio", { controls: true, src: answer.sound });
        holder.replaceChildren(audio);
        audio.play().catch(() => {});
      });
    });
    return holder;
  }

  let again = () => {}, wide = 0;
  const sizes = new ResizeObserver(() => { if (state.tab === "parallel" && Math.abs(root.clientWidth - wide) > 8) again(); wide = root.clientWidth; });
  sizes.observe(root);
  const onView = () => { state.errors.found = null; draw(); };
  model.on("change:view", onView);
  draw();
  return () => {
    endTheme();
    sizes.disconnect();
    model.off("change:view", onView);
    model.off("msg:custom", onAnswer);
  };
}
export default { render };
