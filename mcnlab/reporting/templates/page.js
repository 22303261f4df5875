"use strict";
// Draws every figure of the page from the JSON beside it. Nothing is loaded: plotly.js lies compressed in the page.
(async () => {
  const read = (id) => { const node = document.getElementById(id); return node ? JSON.parse(node.textContent) : null; };
  const packed = document.getElementById("plotly-packed");
  if (!packed) return;
  const bytes = Uint8Array.from(atob(packed.textContent.trim()), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.appendChild(script);

  const thumbnails = read("thumbnails");
  const tip = document.getElementById("tip");
  const config = {
    displaylogo: false,
    responsive: true,
    showSendToCloud: false,  // plotly's button that would carry the figure to its makers' server
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  };

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

  for (const plot of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    const clips = plot.dataset.clips === "yes";
    if (clips) figure.data.forEach((trace) => { delete trace.hovertemplate; trace.hoverinfo = "none"; });
    await Plotly.newPlot(plot, resolve(figure.data), figure.layout, config);
    if (clips) linkClips(plot);
    plot.dataset.drawn = "yes";
    await new Promise((done) => setTimeout(done));
  }
})();
