// A table of clips: pictures, plain text, sorted by a click on a head; a click on a row opens its clip.
function element(kind, attributes = {}, text = "") {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== "") made.textContent = String(text); // never as markup
  return made;
}

function compared(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}

export default {
  render({ model, el }) {
    const root = element("div", { class: "mx-clips" });
    el.append(root);
    let sorted = { at: -1, down: false };

    const numbers = (at) => model.get("rows").map((one) => one.cells[at]).filter((value) => typeof value === "number");

    function head(words, at) {
      const cell = element("th", { scope: "col", ...(numbers(at).length ? { class: "mx-number" } : {}) });
      const button = element("button", { type: "button", title: "Sort" }, words);
      if (sorted.at === at) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      button.addEventListener("click", () => {
        sorted = { at, down: sorted.at === at && !sorted.down };
        draw();
      });
      cell.append(button);
      return cell;
    }

    function line(entry, digits) {
      const row = element("tr", { tabindex: "0", "data-clip": entry.clip, ...(entry.right ? { class: "mx-right" } : {}) });
      const picture = element("td", { class: "mx-thumb" });
      if (entry.picture) picture.append(element("img", { src: entry.picture, alt: "", loading: "lazy" }));
      row.append(picture, ...entry.cells.map((one, at) => cell(one, digits[at])));
      const open = () => model.send({ kind: "open", clip: entry.clip });
      row.addEventListener("click", open);
      row.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        open();
      });
      return row;
    }

    function cell(value, digits) {
      if (typeof value !== "number") return element("td", {}, value ?? "");
      return element("td", { class: "mx-number" }, value.toFixed(digits));
    }

    function draw() {
      const rows = [...model.get("rows")], table = element("table"), top = element("tr"), body = element("tbody");
      if (sorted.at >= 0) rows.sort((a, b) => (sorted.down ? -1 : 1) * compared(a.cells[sorted.at], b.cells[sorted.at]));
      top.append(element("th", { scope: "col", "aria-label": "picture" }), ...model.get("columns").map(head));
      const caption = element("caption", {}, model.get("title")), thead = element("thead");
      thead.append(top);
      const digits = model.get("columns").map((_, at) => (numbers(at).every(Number.isInteger) ? 0 : 3));
      body.append(...rows.map((one) => line(one, digits)));
      if (!rows.length) {
        const none = element("tr"), words = element("td", { colspan: 1 + digits.length, class: "mx-none" }, "no clip");
        none.append(words);
        body.append(none);
      }
      table.append(caption, thead, body);
      root.replaceChildren(...(rows.length || model.get("title") ? [table] : []));
    }

    const again = () => { if (sorted.at >= model.get("columns").length) sorted = { at: -1, down: false }; draw(); };
    for (const name of ["rows", "columns", "title"]) model.on(`change:${name}`, again);
    draw();
    return () => { for (const name of ["rows", "columns", "title"]) model.off(`change:${name}`, again); };
  },
};
