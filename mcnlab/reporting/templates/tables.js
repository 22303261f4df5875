"use strict";
// Tables that sort and can be saved, buttons that copy, and a table of contents that knows where the reader is.
(() => {
  const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "x";
  window.fileName = (what, ending) => `${slug(document.title)}-${slug(what)}.${ending}`;
  window.save = (content, type, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  // A cell's own words, without the small print, and the small print by its name.
  const words = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("small, .dot, button.play").forEach((node) => node.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const small = (cell) => [...cell.querySelectorAll("small")].map((node) => [node.dataset.name || "more", node.textContent.trim()]);
  const number = (text) => {
    const found = /^[+\-−(]?\s*(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?/i.exec(text);
    return found ? parseFloat(found[0].replace("−", "-").replace(/[,(\s]/g, "")) : NaN;
  };
  const heads = (table) => [...(table.tHead ? [...table.tHead.rows].at(-1).cells : [])];
  const body = (table) => (table.tBodies[0] ? [...table.tBodies[0].rows] : []);
  const regular = (table) => {
    const width = heads(table).length;
    return width > 0 && body(table).every((row) => row.cells.length === width && [...row.cells].every((one) => one.rowSpan === 1));
  };

  const sorted = (rows, column, down) => {
    const keyed = rows.map((row) => ({ row, text: words(row.cells[column]) }));
    const numeric = keyed.every(({ text }) => text === "" || text === "–" || !isNaN(number(text)));
    const empty = ({ text }) => text === "" || (numeric && isNaN(number(text)));
    keyed.sort((a, b) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const order = numeric ? number(a.text) - number(b.text) : a.text.localeCompare(b.text, "en", { numeric: true });
      return down ? -order : order;
    });
    return keyed.map(({ row }) => row);
  };
  const makeSortable = (table) => {
    const first = body(table);
    if (first.length < 2) return;
    heads(table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      if (!button.textContent.trim()) button.setAttribute("aria-label", "row");
      head.append(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
        heads(table).forEach((one) => one.removeAttribute("aria-sort"));
        if (next !== "none") head.setAttribute("aria-sort", next);
        table.tBodies[0].append(...(next === "none" ? first : sorted(first, column, next === "descending")));
      });
    });
  };

  // Text that a spreadsheet would take for a formula gets a quote; a number keeps its sign.
  const field = (text) => {
    const plain = text.replace("−", "-");
    const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain);
    const safe = isNumber ? plain : text.replace(/^(?=[=+\-@\t\r−])/, "'");
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  window.csvOf = (table) => {
    const rows = body(table), columns = heads(table).map(words);
    const more = columns.map((_, place) => [...new Set(rows.flatMap((row) => small(row.cells[place]).map(([name]) => name)))]);
    const line = (cells) => cells.map(field).join(",");
    const head = columns.flatMap((name, place) => [name, ...more[place].map((one) => `${name} ${one}`.trim())]);
    const lines = rows.map((row) => line([...row.cells].flatMap((cell, place) => {
      const told = Object.fromEntries(small(cell));
      return [words(cell), ...more[place].map((name) => told[name] || "")];
    })));
    return [line(head), ...lines].join("\r\n") + "\r\n";
  };
  const nameOf = (table) => {
    const figure = table.closest("figure[id]"), folded = table.closest("details");
    if (figure) return figure.id;
    if (table.caption && table.caption.textContent.trim()) return table.caption.textContent;
    return folded ? folded.querySelector("summary").textContent : "table";
  };
  const makeSavable = (table) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = "CSV";
    button.setAttribute("aria-label", `Save the table ${nameOf(table)} as CSV`);
    button.addEventListener("click", () => window.save("\uFEFF" + window.csvOf(table), "text/csv;charset=utf-8", window.fileName(nameOf(table), "csv")));
    const scroll = table.closest(".scroll") || table;
    scroll.after(button);
  };

  for (const table of document.querySelectorAll("main table:not(.retrieved)")) {
    const enrich = () => {
      if (!regular(table)) return;
      makeSortable(table);
      makeSavable(table);
    };
    const folded = table.closest("details:not([open])");
    if (folded) folded.addEventListener("toggle", enrich, { once: true });
    else enrich();
  }
  // Paper does not scroll: a table that is too wide for A4 is shrunk to it.
  const PAPER_PX = 700;
  window.addEventListener("beforeprint", () => {
    for (const table of document.querySelectorAll("main table")) {
      table.classList.add("printed");
      table.style.width = "1px";  // as narrow as its words allow
      const narrowest = table.offsetWidth;
      table.style.width = "";
      table.style.zoom = Math.min(1, PAPER_PX / narrowest) || 1;
    }
  });
  window.addEventListener("afterprint", () => {
    document.querySelectorAll("main table").forEach((table) => { table.classList.remove("printed"); table.style.zoom = ""; });
  });
  const wide = [...document.querySelectorAll(".scroll")].filter((scroll) => scroll.scrollWidth > scroll.clientWidth);
  wide.forEach((scroll) => { scroll.tabIndex = 0; });  // so that arrow keys scroll it

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
      } catch {  // a file in a browser that keeps the clipboard for web sites
        const area = document.createElement("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }

  const links = [...document.querySelectorAll("nav.contents a")];
  const places = links.map((link) => document.getElementById(link.hash.slice(1))).filter(Boolean);
  const mark = () => {
    const atEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 4;
    const passed = places.filter((place) => place.getBoundingClientRect().top <= 120);
    const here = atEnd ? places.at(-1) : passed.at(-1) || places[0];
    for (const link of links) {
      if (link.hash === `#${here.id}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const bar = links[0].parentElement, current = bar.querySelector("[aria-current]");  // a narrow window has it as one line
    bar.scrollLeft = current.offsetLeft - bar.clientWidth / 3;
  };
  if (places.length) {
    let waiting = false;
    document.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    }, { passive: true });
    mark();
  }
})();
