"use strict";
// Draws every figure of the page from the JSON beside it: those near the window at once, the others while the reader
// rests, all of them before printing. Nothing is loaded: plotly.js lies compressed in the page.
(async () => {
  const read = (id) => { const node = document.getElementById(id); return node ? JSON.parse(node.textContent) : null; };
  const packed = document.getElementById("plotly-packed");
  if (!packed) return;
  const decoded = (base64) => {
    const letters = atob(base64), bytes = new Uint8Array(letters.length);
    for (let place = 0; place < letters.length; place += 1) bytes[place] = letters.charCodeAt(place);
    return bytes;
  };
  const bytes = decoded(packed.textContent.trim());
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const plotly = document.createElement("script");
  plotly.textContent = await new Response(unpacked).text();
  const startPlotly = () => plotly.isConnected || document.head.appendChild(plotly);  // it runs here; that takes a while

  const PRINTED_PX = 860, PAPER_PX = 700, LONGEST_PX = 920;  // a figure on A4: drawn so wide, shown so wide, no longer
  const darkColors = read("dark-colors");
  const thumbnails = read("thumbnails");
  const tip = document.getElementById("tip");
  const config = (plot) => ({
    displaylogo: false,
    responsive: true,
    showSendToCloud: false,  // plotly's button that would carry the figure to its makers' server
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    toImageButtonOptions: { format: "png", scale: 2, filename: nameOf(plot, "png").slice(0, -4) },
    modeBarButtonsToAdd: [{ name: "svg", title: "Download plot as SVG", icon: Plotly.Icons.disk, click: () => saveFigure(plot, "svg") }],
  });

  // Arrays that several traces share are written once: {"as": trace} points to the one that holds them.
  const resolve = (traces) => {
    for (const trace of traces) {
      if (trace.customdata && trace.customdata.as !== undefined) trace.customdata = traces[trace.customdata.as].customdata;
      const marker = trace.marker;
      if (marker && marker.color && marker.color.as !== undefined) marker.color = traces[marker.color.as].marker.color;
    }
    return traces;
  };

  const written = document.createElement("textarea");
  const plain = (text) => { written.innerHTML = text; return written.value; };  // a textarea reads entities and runs nothing

  const showTip = (event, number, caption) => {
    const picture = tip.querySelector(".picture");
    picture.style.display = thumbnails ? "block" : "none";
    if (thumbnails) {
      const zoom = 2, size = thumbnails.size * zoom;
      const column = number % thumbnails.columns, row = Math.floor(number / thumbnails.columns);
      picture.style.width = picture.style.height = `${size}px`;
      picture.style.backgroundImage = `url(${thumbnails.uri})`;
      picture.style.backgroundSize = `${thumbnails.columns * size}px auto`;
      picture.style.backgroundPosition = `-${column * size}px -${row * size}px`;
    }
    tip.querySelector(".words").textContent = plain(caption);
    tip.style.display = "block";
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - box.width - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - box.height - 8)}px`;
  };

  const ringAll = (plot, number) => {
    clearRings(plot);
    plot.calcdata.forEach((points) => {
      const trace = points[0] && points[0].trace;
      if (!trace || trace.visible !== true || !trace.customdata) return;
      const point = points.find((one) => trace.customdata[one.i] && trace.customdata[one.i][0] === number);
      if (!point || !isFinite(point.x) || !isFinite(point.y)) return;
      const layout = plot._fullLayout;
      const x = layout[trace.xaxis.replace("x", "xaxis")], y = layout[trace.yaxis.replace("y", "yaxis")];
      const ring = document.createElement("div");
      ring.className = "ring";
      ring.style.left = `${x._offset + x.l2p(point.x)}px`;
      ring.style.top = `${y._offset + y.l2p(point.y)}px`;
      plot.appendChild(ring);
    });
  };
  const clearRings = (plot) => plot.querySelectorAll(".ring").forEach((ring) => ring.remove());

  const linkClips = (plot) => {
    plot.on("plotly_hover", (event) => {
      const [number, caption] = event.points[0].customdata || [];
      if (number === undefined) return;
      showTip(event.event, number, caption);
      ringAll(plot, number);
    });
    plot.on("plotly_unhover", () => { tip.style.display = "none"; clearRings(plot); });
  };

  // Colors have a twin for dark pages. Only values of color settings are looked at: a caption may read "white".
  const inTheme = (value, dark, isColor = false) => {
    if (typeof value === "string") return (dark && isColor && darkColors[value]) || value;
    if (Array.isArray(value)) return value.map((one) => inTheme(one, dark, isColor));
    if (!value || typeof value !== "object") return value;
    const twin = ([key, one]) => [key, key === "customdata" ? one : inTheme(one, dark, /color/i.test(key))];
    return Object.fromEntries(Object.entries(value).map(twin));
  };
  const themed = (plot) => {
    const dark = window.isDark() && !printing, { data, layout } = plot.told;
    const size = printing ? { width: PRINTED_PX } : {};
    return [inTheme(data, dark), { ...inTheme(layout, dark), ...size, uirevision: "kept" }];
  };

  const nameOf = (plot, ending) => {
    const figure = plot.closest("figure");
    const heading = figure && figure.querySelector("h2, h3, h4");
    return window.fileName((figure && figure.id) || (heading && heading.textContent) || "figure", ending);
  };
  // What is saved is for a paper: always light.
  const saveFigure = async (plot, format) => {
    await draw(plot);
    const { data, layout } = plot.told;
    const size = { width: plot.clientWidth, height: plot.told.layout.height || plot.clientHeight };
    const uri = await Plotly.toImage({ data, layout: { ...layout, ...size } }, { format, ...size, scale: format === "png" ? 2 : 1 });
    const type = format === "svg" ? "image/svg+xml" : "image/png";
    const place = uri.indexOf(",") + 1;
    const content = format === "svg" ? decodeURIComponent(uri.slice(place)) : decoded(uri.slice(place));
    window.save(content, type, nameOf(plot, format));
  };

  // The number in a cell is black or white, whichever stands out more: plotly's own choice is too pale on middle tones.
  const channels = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const colorAt = (scale, part) => {
    const next = Math.max(1, scale.findIndex(([place]) => place >= part)), [from, to] = [scale[next - 1], scale[next]];
    const share = Math.min(1, Math.max(0, (part - from[0]) / (to[0] - from[0]))), end = channels(to[1]);
    return channels(from[1]).map((one, place) => one + share * (end[place] - one));
  };
  const makeReadable = (plot) => {
    const trace = plot._fullData.find((one) => one.type === "heatmap");
    if (!trace) return;
    const axis = trace.coloraxis ? plot._fullLayout[trace.coloraxis] : { colorscale: trace.colorscale, cmin: trace.zmin, cmax: trace.zmax };
    if (!axis.colorscale.every(([, color]) => /^#[0-9a-f]{6}$/i.test(color))) return;
    for (const text of plot.querySelectorAll(".heatmap-label text")) {
      const part = (text.__data__.z - axis.cmin) / (axis.cmax - axis.cmin);
      text.style.fill = luminance(colorAt(axis.colorscale, Math.min(1, Math.max(0, part)))) > 0.179 ? "#000000" : "#ffffff";
    }
  };

  const draw = async (plot) => {
    if (plot.told) return;
    startPlotly();
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    const clips = plot.dataset.clips === "yes";
    if (clips) figure.data.forEach((trace) => { delete trace.hovertemplate; trace.hoverinfo = "none"; });
    plot.told = { data: resolve(figure.data), layout: figure.layout };
    const drawn = Plotly.newPlot(plot, ...themed(plot), config(plot));
    if (clips) linkClips(plot);
    plot.on("plotly_afterplot", () => makeReadable(plot));
    await drawn;
    makeReadable(plot);
    plot.dataset.drawn = "yes";
  };

  let printing = false;
  const plots = [...document.querySelectorAll(".plot")];
  const redraw = (plot) => (plot.told ? Plotly.react(plot, ...themed(plot), config(plot)) : null);
  document.documentElement.addEventListener("themechange", () => plots.forEach(redraw));

  // Paper is white and narrow: every figure is drawn anew for it, and shrunk to what fits on one page.
  window.addEventListener("beforeprint", () => {
    printing = true;
    for (const plot of plots) {
      plot.style.width = `${PRINTED_PX}px`;
      plot.style.zoom = Math.min(PAPER_PX / PRINTED_PX, LONGEST_PX / parseFloat(plot.style.height));
      redraw(plot) || draw(plot);
    }
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    for (const plot of plots) {
      plot.style.width = plot.style.zoom = "";
      if (redraw(plot)) Plotly.Plots.resize(plot);
    }
  });

  for (const button of document.querySelectorAll("button[data-save]")) {
    button.hidden = false;
    button.addEventListener("click", () => saveFigure(button.closest("figure").querySelector(".plot"), button.dataset.save));
  }

  // Drawing holds the page up, so the figures that nobody sees wait until the reader does nothing.
  const NEAR_PX = 500, RESTS_MS = 1000;
  const idle = window.requestIdleCallback || ((then) => setTimeout(then, 50));
  const pause = (ms = 0) => new Promise((done) => setTimeout(done, ms));
  let touched = performance.now();
  for (const kind of ["scroll", "wheel", "pointerdown", "pointermove", "keydown"]) {
    window.addEventListener(kind, () => { touched = performance.now(); }, { passive: true, capture: true });
  }
  const near = new Set(), left = () => plots.filter((plot) => !plot.told);
  let drawing = false;
  const next = () => left().find((one) => near.has(one)) || (performance.now() < touched + RESTS_MS ? undefined : left()[0]);
  const drawNext = async () => {
    if (drawing || !next()) return;
    drawing = true;
    try {
      startPlotly();
      for (let plot; await pause(), (plot = next());) await draw(plot);  // the pause lets clicks and scrolling through
    } finally { drawing = false; }
  };
  const watch = new IntersectionObserver((seen) => {
    seen.forEach((one) => (one.isIntersecting ? near.add(one.target) : near.delete(one.target)));
    drawNext();
  }, { rootMargin: `${NEAR_PX}px` });
  plots.forEach((plot) => watch.observe(plot));
  while (left().length) {
    await pause(Math.max(50, touched + RESTS_MS - performance.now()));
    await new Promise((done) => idle(done, { timeout: RESTS_MS }));
    await drawNext();
  }
  watch.disconnect();
})();
