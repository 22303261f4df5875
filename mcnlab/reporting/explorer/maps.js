// Two maps side by side, painted pixel by pixel: 50,000 clips stay fluid without a graphics card.
const GRAY = "#8c959f", FRAME = 1.15, MOVE_MS = 700, CLICK_PX = 4, HIT_PX = 9;

const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const numbers = (view) => new Int32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const bytes = (view) => new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

function element(kind, attributes = {}, text = "") {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text; // never as markup
  return made;
}

function rgb(color) {
  const found = color.match(/[\d.]+/g);
  if (color.startsWith("#")) return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return found ? found.slice(0, 3).map(Number) : [255, 255, 255];
}

const linear = (part) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
const light = (color) => 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
const mixed = (one, other, share) => one.map((part, at) => Math.round(part * (1 - share) + other[at] * share));

function contrast(one, other) {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

// A color that can be seen on this background, moved no further than it must be.
function readable(color, ground, wanted) {
  const away = light(ground) > 0.4 ? [0, 0, 0] : [255, 255, 255];
  let seen = contrast(color, ground) < 1.4 && light(color) < 0.01 ? away : color; // black on a dark ground is white
  for (let share = 0.1; contrast(seen, ground) < wanted && share < 1; share += 0.1) seen = mixed(color, away, share);
  return seen;
}

const packed = (color) => (255 << 24) | (color[2] << 16) | (color[1] << 8) | color[0];

// The pixels of a disk, as runs of (row, first column, columns).
function disk(radius) {
  const runs = [], reach = Math.ceil(radius);
  for (let down = -reach; down <= reach; down++) {
    const half = Math.sqrt(radius * radius - down * down);
    if (half >= 0) runs.push([down, -Math.floor(half), 2 * Math.floor(half) + 1]);
  }
  return runs.length ? runs : [[0, 0, 1]];
}

class Panel {
  constructor(model, side, host, shared) {
    Object.assign(this, { model, side, shared, view: { x: 0, y: 0, scale: 1 }, hovered: -1, path: null });
    this.box = element("div", { class: "mx-panel" });
    this.canvas = element("canvas", { tabindex: "0", role: "img" });
    this.key = element("div", { class: "mx-key" });
    this.box.append(this.canvas, this.key);
    host.append(this.box);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.canvas.placeOf = (clip) => this.placeOfClip(clip); // for tests: where a clip is drawn
    this.canvas.drawn = 0;
    this.readPoints(false);
    this.listen();
  }

  get(name) { return this.model.get(`${name}_${this.side}`); }

  readPoints(moving) {
    const next = floats(this.get("places")), clips = numbers(this.get("clips"));
    const same = this.target && this.target.length === next.length;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.start = moving && same && !still ? this.places.slice() : null;
    this.started = performance.now();
    this.target = next;
    this.places = this.start ? this.places : next;
    this.clips = clips;
    this.shared.dirty();
  }

  readColors() {
    if (!this.ground) return; // not on the page yet: it is colored as soon as it is
    const legend = this.get("legend"), ground = this.ground;
    this.codes = bytes(this.get("codes"));
    const wanted = legend.low === undefined ? 2.6 : 1.8; // shades keep their order
    const colors = (legend.palette || []).map((one) => readable(rgb(one), ground, wanted));
    const none = readable(rgb(GRAY), ground, 1.8);
    this.bright = new Int32Array(256).fill(packed(none));
    this.faint = new Int32Array(256).fill(packed(mixed(none, ground, 0.82)));
    colors.forEach((one, at) => {
      this.bright[at] = packed(one);
      this.faint[at] = packed(mixed(one, ground, 0.82));
    });
    this.drawKey(legend, colors);
    this.shared.dirty();
  }

  drawKey(legend, colors) {
    const css = (color) => `rgb(${color.join(",")})`;
    this.key.replaceChildren(element("span", { class: "mx-key-title" }, legend.title || ""));
    if (legend.low !== undefined && colors.length) {
      const bar = element("span", { class: "mx-bar", "aria-hidden": "true" });
      bar.style.background = `linear-gradient(to right, ${colors.map(css).join(",")})`;
      this.key.append(element("span", {}, legend.low), bar, element("span", {}, legend.high));
    }
    (legend.entries || []).forEach((text, at) => {
      const entry = element("span", { class: "mx-entry" });
      const spot = element("span", { class: "mx-spot", "aria-hidden": "true" });
      spot.style.background = css(colors[at] || rgb(GRAY));
      entry.append(spot, document.createTextNode(text));
      this.key.append(entry);
    });
    const words = (legend.entries || [legend.low, legend.high]).join(", ");
    this.canvas.setAttribute("aria-label", `${legend.map || "map"}; color: ${legend.title || "none"} (${words})`);
  }

  resize() {
    const wide = this.canvas.clientWidth, high = this.canvas.clientHeight;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(wide * this.ratio)), height = Math.max(1, Math.round(high * this.ratio));
    if (this.pixels && this.canvas.width === width && this.canvas.height === height) return;
    Object.assign(this.canvas, { width, height });
    this.image = this.context.createImageData(width, height);
    this.pixels = new Int32Array(this.image.data.buffer);
    this.shared.dirty();
  }

  recolor() {
    this.ground = rgb(getComputedStyle(this.canvas).backgroundColor);
    this.ink = getComputedStyle(this.canvas).color;
    this.readColors();
  }

  get unit() { return (this.view.scale * Math.min(this.canvas.width, this.canvas.height)) / (2 * FRAME); }
  column(x) { return (x - this.view.x) * this.unit + this.canvas.width / 2; }
  row(y) { return this.canvas.height / 2 - (y - this.view.y) * this.unit; }

  radius() {
    const many = this.clips.length;
    const small = many > 20000 ? 1.2 : many > 5000 ? 1.7 : many > 1500 ? 2.4 : 3.4;
    return small * this.ratio * Math.min(3, Math.max(1, this.view.scale ** 0.45));
  }

  // One step of a move from old to new places; whether another is needed.
  move(now) {
    if (!this.start) return false;
    const part = Math.min(1, (now - this.started) / MOVE_MS), eased = part * part * (3 - 2 * part);
    const known = Number.isFinite;
    this.places = this.target.map((to, at) => (known(to) && known(this.start[at]) ? this.start[at] + (to - this.start[at]) * eased : to));
    if (part === 1) this.start = null;
    return part < 1;
  }

  draw() {
    if (!this.pixels || !this.bright) return;
    const ground = packed(this.ground), chosen = this.shared.chosen;
    this.pixels.fill(ground);
    const stamp = disk(this.radius());
    if (chosen) this.paint(stamp, this.faint, (clip) => !chosen[clip]);
    this.paint(stamp, this.bright, chosen ? (clip) => chosen[clip] : null);
    this.context.putImageData(this.image, 0, 0);
    for (const clip of this.model.get("marks")) this.ring(clip, 6, "#d55e00", 2);
    this.ring(this.model.get("opened"), 8, this.ink, 3);
    this.ring(this.shared.hovered, 7, this.ink, 1.5);
    if (this.path) this.drawPath();
    this.canvas.drawn += 1;
  }

  paint(stamp, colors, wanted) {
    const { places, clips, codes, pixels } = this, width = this.canvas.width, height = this.canvas.height;
    const unit = this.unit, left = width / 2 - this.view.x * unit, top = height / 2 + this.view.y * unit;
    const reach = Math.ceil(this.radius()) + 1;
    for (let point = 0; point < clips.length; point++) {
      if (wanted && !wanted(clips[point])) continue;
      const column = Math.round(left + places[2 * point] * unit), row = Math.round(top - places[2 * point + 1] * unit);
      if (!(column >= reach && row >= reach && column < width - reach && row < height - reach)) continue;
      const color = colors[codes[point]];
      for (let at = 0; at < stamp.length; at++) {
        const [down, first, many] = stamp[at], begin = (row + down) * width + column + first;
        for (let next = begin; next < begin + many; next++) pixels[next] = color;
      }
    }
  }

  ring(clip, radius, color, thick) {
    if (clip < 0) return;
    for (let point = 0; point < this.clips.length; point++) {
      if (this.clips[point] !== clip || !Number.isFinite(this.places[2 * point])) continue;
      this.context.beginPath();
      this.context.arc(this.column(this.places[2 * point]), this.row(this.places[2 * point + 1]), radius * this.ratio, 0, 7);
      this.context.lineWidth = thick * this.ratio;
      this.context.strokeStyle = color;
      this.context.stroke();
    }
  }

  drawPath() {
    this.context.beginPath();
    this.path.forEach(([x, y], at) => (at ? this.context.lineTo(x, y) : this.context.moveTo(x, y)));
    this.context.closePath();
    this.context.lineWidth = 1.5 * this.ratio;
    this.context.strokeStyle = this.ink;
    this.context.stroke();
  }

  // The point under the pointer, or -1.
  hit(x, y) {
    let best = (HIT_PX * this.ratio) ** 2, found = -1;
    for (let point = 0; point < this.clips.length; point++) {
      const across = this.column(this.places[2 * point]) - x, down = this.row(this.places[2 * point + 1]) - y;
      const far = across * across + down * down;
      if (far <= best) { best = far; found = point; }
    }
    return found;
  }

  placeOfClip(clip) {
    const point = this.clips.indexOf(clip);
    const place = [this.column(this.places[2 * point]) / this.ratio, this.row(this.places[2 * point + 1]) / this.ratio];
    return point < 0 ? null : place;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => (this.pressed ? this.drag(event) : this.hover(event)));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.pressed = this.path = null; });
    canvas.addEventListener("pointerleave", () => this.shared.leave());
    canvas.addEventListener("dblclick", () => this.shared.look(this, { x: 0, y: 0, scale: 1 }));
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), this.at(event)); }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.type(event));
  }

  press(event) {
    const spot = this.at(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.pressed = { spot, view: { ...this.view }, moved: false };
    if (this.shared.tool === "lasso") this.path = [spot];
    this.shared.leave();
  }

  drag(event) {
    const [x, y] = this.at(event), { spot, view } = this.pressed;
    if (Math.hypot(x - spot[0], y - spot[1]) > CLICK_PX * this.ratio) this.pressed.moved = true;
    if (this.path) this.path.push([x, y]);
    else this.shared.look(this, { ...view, x: view.x - (x - spot[0]) / this.unit, y: view.y + (y - spot[1]) / this.unit });
    this.shared.dirty();
  }

  release(event) {
    const pressed = this.pressed, path = this.path;
    this.pressed = this.path = null;
    if (!pressed) return;
    const point = pressed.moved ? -1 : this.hit(...this.at(event));
    if (path && pressed.moved) this.choose(path);
    else if (point >= 0) this.model.send({ kind: "open", side: this.side, clip: this.clips[point], point });
    this.shared.dirty();
  }

  // Tell Python which clips lie inside of a path.
  choose(path) {
    const inside = new Set();
    for (let point = 0; point < this.clips.length; point++) {
      const x = this.column(this.places[2 * point]), y = this.row(this.places[2 * point + 1]);
      let odd = false;
      for (let here = 0, before = path.length - 1; here < path.length; before = here++) {
        const [ax, ay] = path[here], [bx, by] = path[before];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
      }
      if (odd) inside.add(this.clips[point]);
    }
    const rows = Int32Array.from(inside).sort();
    this.model.send({ kind: "lasso", side: this.side }, undefined, [rows.buffer]);
  }

  zoom(factor, spot) {
    const scale = Math.min(200, Math.max(0.5, this.view.scale * factor)), grown = scale / this.view.scale;
    const across = (spot[0] - this.canvas.width / 2) / this.unit, down = (this.canvas.height / 2 - spot[1]) / this.unit;
    const keep = 1 - 1 / grown;
    this.shared.look(this, { x: this.view.x + across * keep, y: this.view.y + down * keep, scale });
  }

  hover(event) {
    const point = this.hit(...this.at(event));
    this.canvas.style.cursor = point >= 0 ? "pointer" : this.shared.tool === "lasso" ? "crosshair" : "grab";
    if (point >= 0) this.shared.point(this.clips[point], event);
    else this.shared.leave();
  }

  type(event) {
    const step = 0.15 / this.view.scale, middle = [this.canvas.width / 2, this.canvas.height / 2];
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) this.shared.look(this, { ...this.view, x: this.view.x + moves[event.key][0], y: this.view.y + moves[event.key][1] });
    else if (event.key === "+" || event.key === "=") this.zoom(1.25, middle);
    else if (event.key === "-") this.zoom(0.8, middle);
    else if (event.key === "0") this.shared.look(this, { x: 0, y: 0, scale: 1 });
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has keys of its own
  }
}

// What both panels share: the tool, the selection, the tip, the clock.
class Maps {
  constructor(model, el) {
    Object.assign(this, { model, tool: "move", together: true, hovered: -1, told: new Map(), asked: new Set(), waiting: false });
    this.root = element("div", { class: "mx-root" });
    el.append(this.root);
    this.makeTools();
    const opened = () => { this.root.dataset.opened = model.get("opened"); };
    opened();
    this.opened = opened;
    const row = element("div", { class: "mx-row" });
    this.tip = element("div", { class: "mx-tip", role: "tooltip", hidden: "" });
    this.root.append(row, this.tip);
    this.readChosen();
    this.panels = ["left", "right"].map((side) => new Panel(model, side, row, this));
    this.observe(row);
  }

  makeTools() {
    const bar = element("div", { class: "mx-tools", role: "toolbar", "aria-label": "Maps" });
    const button = (text, title, act) => {
      const made = element("button", { type: "button", class: "mx-button", title }, text);
      made.addEventListener("click", act);
      bar.append(made);
      return made;
    };
    this.tools = {
      move: button("Move", "Drag to move, wheel to zoom", () => this.take("move")),
      lasso: button("Lasso", "Draw round the clips to select", () => this.take("lasso")),
    };
    button("Whole map", "Show everything again (double click, or 0)", () => this.panels.forEach((one) => this.look(one, { x: 0, y: 0, scale: 1 })));
    button("Clear selection", "Show all clips in the table", () => this.model.send({ kind: "clear" }));
    const label = element("label", { class: "mx-check" }), check = element("input", { type: "checkbox" });
    check.checked = true;
    check.addEventListener("change", () => { this.together = check.checked; });
    label.append(check, document.createTextNode("move both maps together"));
    bar.append(label);
    this.root.append(bar);
    this.take("move");
  }

  take(tool) {
    this.tool = tool;
    for (const [name, made] of Object.entries(this.tools)) made.setAttribute("aria-pressed", String(name === tool));
  }

  look(panel, view) {
    for (const one of this.together ? this.panels : [panel]) one.view = { ...view };
    this.dirty();
  }

  readChosen() {
    const rows = numbers(this.model.get("chosen"));
    this.chosen = null;
    if (this.model.get("filtered")) {
      this.chosen = new Uint8Array(this.model.get("count"));
      rows.forEach((row) => { this.chosen[row] = 1; });
    }
    this.dirty();
  }

  // Look at a clip on both maps.
  jump(clip) {
    for (const panel of this.panels) {
      const point = panel.clips.indexOf(clip);
      const known = point >= 0 && Number.isFinite(panel.places[2 * point]);
      if (known) panel.view = { x: panel.places[2 * point], y: panel.places[2 * point + 1], scale: Math.max(3, panel.view.scale) };
    }
    this.dirty();
  }

  observe(row) {
    this.sizes = new ResizeObserver(() => { this.panels.forEach((one) => one.resize()); });
    this.sizes.observe(row);
    this.theme = new MutationObserver(() => this.panels.forEach((one) => one.recolor()));
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
    requestAnimationFrame(() => this.panels.forEach((one) => { one.resize(); one.recolor(); }));
  }

  dirty() {
    if (this.waiting || this.closed) return;
    this.waiting = true;
    requestAnimationFrame((now) => {
      this.waiting = false;
      if (!this.panels) return;
      const moving = this.panels.map((one) => one.move(now)).some(Boolean);
      this.panels.forEach((one) => one.draw());
      if (moving) this.dirty();
    });
  }

  point(clip, event) {
    const box = this.root.getBoundingClientRect();
    const left = Math.min(event.clientX - box.left + 14, box.width - 250);
    Object.assign(this.tip.style, { left: `${Math.max(0, left)}px`, top: `${event.clientY - box.top + 14}px` });
    if (clip === this.hovered) return;
    this.hovered = clip;
    this.dirty();
    if (this.told.has(clip)) this.show(this.told.get(clip));
    else {
      this.show({ caption: "…" });
      if (!this.asked.has(clip)) { this.asked.add(clip); this.model.send({ kind: "hover", clip }); }
    }
  }

  hear(message) {
    if (message.kind === "jump") this.jump(message.clip);
    if (message.kind !== "hover") return;
    this.told.set(message.clip, message);
    this.asked.delete(message.clip);
    if (message.clip === this.hovered) this.show(message);
  }

  show(told) {
    const words = element("div", { class: "mx-words" });
    words.append(element("div", {}, told.caption), element("div", { class: "mx-small" }, told.small || ""));
    this.tip.replaceChildren(...(told.picture ? [element("img", { src: told.picture, alt: "" })] : []), words);
    this.tip.hidden = false;
  }

  leave() {
    if (this.hovered < 0) return;
    this.hovered = -1;
    this.tip.hidden = true;
    this.dirty();
  }

  close() {
    this.closed = true;
    this.sizes.disconnect();
    this.theme.disconnect();
  }
}

export default {
  render({ model, el }) {
    const maps = new Maps(model, el), calls = [];
    const on = (name, act) => { model.on(name, act); calls.push([name, act]); };
    maps.panels.forEach((panel) => {
      on(`change:places_${panel.side}`, () => panel.readPoints(true));
      on(`change:clips_${panel.side}`, () => panel.readPoints(true));
      on(`change:codes_${panel.side}`, () => panel.readColors());
      on(`change:legend_${panel.side}`, () => panel.readColors());
    });
    for (const name of ["chosen", "filtered", "count"]) on(`change:${name}`, () => maps.readChosen());
    on("change:marks", () => maps.dirty());
    on("change:opened", () => { maps.opened(); maps.dirty(); });
    on("msg:custom", (message) => maps.hear(message));
    return () => { maps.close(); calls.forEach(([name, act]) => model.off(name, act)); };
  },
};
