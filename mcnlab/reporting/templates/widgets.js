// What our widgets share: elements whose text is never markup, and curves that take the theme's colors.
const SVG = "http://www.w3.org/2000/svg";
const COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8c959f", "#b5a900"];

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}
const el = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);

function short(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : String(+value.toPrecision(digits + 1));
  return text.replace("-", "−");
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(+value.toPrecision(12));
  return found;
}

function powers(low, high) { // places on a logarithmic axis: 1, 2, 5 where there is room for them
  const found = [], few = Math.log10(high / low) > 2.5;
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
    found.push(...(few ? [1] : [1, 2, 5]).map((factor) => +(factor * 10 ** power).toPrecision(3)));
  return found.filter((value) => value >= low && value <= high);
}

function isDark(node) { // by what is seen, since themes name themselves as they like
  const numbers = getComputedStyle(node).color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0];
  return 0.3 * numbers[0] + 0.6 * numbers[1] + 0.1 * numbers[2] > 140;
}

function followTheme(root) { // returns what ends it
  const look = () => root.classList.toggle("dark", isDark(root));
  const watcher = new MutationObserver(() => setTimeout(look, 60));
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  requestAnimationFrame(look);
  setTimeout(look, 400);
  return () => watcher.disconnect();
}

// A chart of lines that is drawn again at every update; names that were switched off stay off.
class Chart {
  constructor(title, unit) {
    this.off = new Set();
    this.known = new Set();
    this.parts = this.log = false;
    this.keys = el("div", { class: "keys" });
    this.readout = el("div", { class: "readout" });
    this.svg = svg("svg", { role: "img", tabindex: "0" });
    this.node = el("div", {}, el("h4", {}, title), this.keys, this.svg, this.readout);
    Object.assign(this, { title, unit, lines: [], marks: [], height: 210, at: null });
    this.svg.addEventListener("pointermove", (event) => this.read(event.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.read(null));
    this.svg.addEventListener("blur", () => this.read(null));
    this.svg.addEventListener("keydown", (event) => this.move(event));
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.node);
  }

  show(lines, marks) {
    for (const line of lines) if (line.quiet && !this.known.has(line.name)) this.off.add(line.name);
    lines.forEach((line) => this.known.add(line.name));
    Object.assign(this, { lines, marks });
    this.draw();
  }

  drawn() { return this.lines.filter((line) => !this.off.has(line.name) && line.x.length); }

  draw() {
    const width = Math.floor(this.node.clientWidth);
    if (width < 60) return;
    this.drawKeys();
    const lines = this.drawn(), left = 46, right = 10, top = 8, bottom = 34, height = this.height;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.height = `${height}px`;
    this.svg.replaceChildren();
    this.cursor = null;
    const last = lines.map((line) => `${line.name} ${short(line.y.at(-1))}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.title}. ${last ? `At the end: ${last}` : "Nothing yet"}. Arrow keys read values.`);
    if (!lines.length) {
      this.svg.append(svg("text", { x: left, y: height / 2 }, this.lines.length ? "all lines are switched off" : "no step yet"));
      return;
    }
    const bounds = (key) => lines.reduce(([low, high], line) => line[key].reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [low, high]), [Infinity, -Infinity]);
    let [firstStep, lastStep] = bounds("x"), [low, high] = bounds("y");
    if (lastStep === firstStep) lastStep = firstStep + 1;
    const log = this.log && low > 0, scale = log ? Math.log10 : (value) => value;
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    [low, high] = log ? [low * 0.9, high * 1.1] : [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
    this.x = (step) => left + ((step - firstStep) / (lastStep - firstStep)) * (width - left - right);
    this.y = (value) => height - bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (height - bottom - top);
    for (const value of log ? powers(low, high) : ticks(low, high, 4)) {
      this.svg.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: this.y(value), y2: this.y(value) }));
      this.svg.append(svg("text", { x: left - 6, y: this.y(value) + 4, "text-anchor": "end" }, short(value)));
    }
    for (const step of ticks(firstStep, lastStep, Math.max(2, Math.floor(width / 110)))) {
      const anchor = this.x(step) > width - 30 ? "end" : "middle";
      this.svg.append(svg("text", { x: this.x(step), y: height - bottom + 15, "text-anchor": anchor }, String(step)));
    }
    this.svg.append(svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, this.unit ? `step · vertical: ${this.unit}` : "step"));
    for (const step of this.marks.filter((one) => one >= firstStep && one <= lastStep))
      this.svg.append(svg("line", { class: "stage", x1: this.x(step), x2: this.x(step), y1: top, y2: height - bottom }));
    for (const line of lines) {
      const points = line.x.map((step, place) => `${this.x(step).toFixed(1)},${this.y(line.y[place]).toFixed(1)}`);
      if (points.length === 1) this.svg.append(svg("circle", { cx: this.x(line.x[0]), cy: this.y(line.y[0]), r: 2.5, fill: this.color(line) }));
      this.svg.append(svg("polyline", { class: "curve", points: points.join(" "), stroke: this.color(line), "data-name": line.name }));
    }
    if (this.at !== null) this.tell();
  }

  color(line) { return line.color ?? COLORS[this.lines.indexOf(line) % COLORS.length]; }

  drawKeys() {
    const shown = this.lines.filter((line) => this.parts || !line.quiet);
    const state = shown.map((line) => line.name + !this.off.has(line.name)).join() + this.parts + this.log + this.lines.length;
    if (this.keysDrawn === state) return;
    this.keysDrawn = state;
    const focused = this.keys.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const more = this.lines.some((line) => line.quiet) && el("button", {
      type: "button", "data-name": "", class: "more", "aria-expanded": String(this.parts), onclick: () => this.showParts(),
    }, this.parts ? "without parts" : "with parts");
    const axis = el("button", {
      type: "button", "data-name": "log", class: "more", "aria-label": `${this.title}: logarithmic axis`, title: "Logarithmic axis, where all that is shown is above 0",
      "aria-checked": String(this.log), role: "switch", onclick: () => { this.log = !this.log; this.draw(); },
    }, this.log ? "linear" : "log");
    this.keys.replaceChildren(...shown.map((line) => el("button", {
      type: "button", "data-name": line.name, "aria-pressed": String(!this.off.has(line.name)), title: `Show or hide ${line.name}`,
      onclick: () => { if (!this.off.delete(line.name)) this.off.add(line.name); this.draw(); },
    }, el("i", { style: `background:${this.color(line)}` }), line.name)), ...(more ? [more] : []), axis);
    if (focused !== null) [...this.keys.children].find((key) => key.dataset.name === focused)?.focus();
  }

  showParts() {
    this.parts = !this.parts;
    for (const line of this.lines.filter((one) => one.quiet)) this.parts ? this.off.delete(line.name) : this.off.add(line.name);
    this.draw();
  }

  read(px) {
    const lines = this.drawn();
    if (px === null || !lines.length || !this.x) { this.at = null; this.readout.textContent = ""; this.cursor?.remove(); this.cursor = null; return; }
    const longest = lines.reduce((a, b) => (b.x.length > a.x.length ? b : a));
    this.at = longest.x.reduce((a, b) => (Math.abs(this.x(b) - px) < Math.abs(this.x(a) - px) ? b : a));
    this.tell();
  }

  move(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], lines = this.drawn();
    if (!by || !lines.length) return;
    event.preventDefault();
    event.stopPropagation();
    const steps = lines.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
    const place = this.at === null ? steps.length - 1 : Math.max(0, Math.min(steps.length - 1, steps.indexOf(this.at) + by));
    this.at = steps[place];
    this.tell();
  }

  tell() {
    const nearest = (line) => line.x.reduce((best, step, place) => (Math.abs(step - this.at) < Math.abs(line.x[best] - this.at) ? place : best), 0);
    const values = this.drawn().map((line) => `${line.name} ${short(line.y[nearest(line)])}`);
    this.readout.textContent = `step ${Math.round(this.at)}: ${values.join(" · ")}`;
    this.cursor?.remove();
    this.cursor = svg("line", { class: "stage", x1: this.x(this.at), x2: this.x(this.at), y1: 8, y2: this.height - 34 });
    this.svg.append(this.cursor);
  }

  end() { this.sizes.disconnect(); }
}
