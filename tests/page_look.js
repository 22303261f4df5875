// What is wrong with how the open page looks: sideways overflow, texts of a figure over each other or cut, missing glyphs.
() => {
  const SLACK_PX = 1, ASIDE = 0.14;  // a line's box is taller than its letters: so much of it is left off, above and below
  const corners = (text) => {
    const box = text.getBBox(), to = text.getScreenCTM(), off = box.height * ASIDE;
    const at = (x, y) => ({ x: to.a * x + to.c * y + to.e, y: to.b * x + to.d * y + to.f });
    const [left, right, top, bottom] = [box.x + SLACK_PX, box.x + box.width - SLACK_PX, box.y + off, box.y + box.height - off];
    return [at(left, top), at(right, top), at(right, bottom), at(left, bottom)];
  };
  // Two boxes, turned or not, lie apart where a line along one of their sides parts them.
  const parted = (one, other, from, to) => {
    const across = { x: from.y - to.y, y: to.x - from.x };
    const along = (box) => box.map((corner) => corner.x * across.x + corner.y * across.y);
    const [a, b] = [along(one), along(other)];
    return Math.max(...a) <= Math.min(...b) || Math.max(...b) <= Math.min(...a);
  };
  const meet = (one, other) => ![one, other].some((box) => [0, 1].some((side) => parted(one, other, box[side], box[side + 1])));
  const shown = (text) => text.textContent.trim() && text.getClientRects().length && getComputedStyle(text).visibility === "visible"
    && Number(getComputedStyle(text).opacity) > 0.05 && !text.closest(".hoverlayer, .modebar, [style*='display: none']");
  const where = (svg) => { const figure = svg.closest("figure"); return (figure && (figure.id || figure.querySelector("h3")?.textContent)) || "figure"; };

  const overlaps = [], cut = [];
  for (const drawing of document.querySelectorAll(".plot, figure.graph svg")) {
    const texts = [...drawing.querySelectorAll("text")].filter(shown).map((text) => ({ words: text.textContent.trim(), box: corners(text) }));
    texts.forEach((one, place) => texts.slice(place + 1).forEach((other) => {
      if (meet(one.box, other.box)) overlaps.push(`${where(drawing)}: “${one.words}” and “${other.words}”`);
    }));
    const frame = drawing.getBoundingClientRect();
    for (const { words, box } of texts) {
      const out = box.some(({ x, y }) => x < frame.left - 1 || x > frame.right + 1 || y < frame.top - 1 || y > frame.bottom + 1);
      if (out) cut.push(`${where(drawing)}: “${words}”`);
    }
  }

  // A letter that no font has looks like one that no font can have.
  const canvas = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const look = (letter) => {
    pen.clearRect(0, 0, 28, 28);
    pen.font = `16px ${getComputedStyle(document.body).fontFamily}`;
    pen.fillText(letter, 4, 20);
    return pen.getImageData(0, 0, 28, 28).data.join();
  };
  const unknown = look("\uffff"), strange = look("\ue123");
  const read = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT, (node) => (node.parentElement.closest("script, style, noscript") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  const letters = new Set();
  while (read.nextNode()) for (const letter of read.currentNode.data) if (letter.trim() && letter > "~") letters.add(letter);
  const missing = [...letters].filter((letter) => [unknown, strange].includes(look(letter)));

  return { wide: document.documentElement.scrollWidth - window.innerWidth, overlaps, cut, missing };
}
