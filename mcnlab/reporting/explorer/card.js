// One clip: its frames, its sound, what was said, and what is near in the other modalities.
function element(kind, attributes = {}, text = "") {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== "") made.textContent = String(text); // never as markup
  return made;
}

export default {
  render({ model, el }) {
    const root = element("section", { class: "mx-card", "aria-label": "Clip" });
    el.append(root);

    function frames(card) {
      const box = element("div", { class: "mx-frames" });
      const picture = element("img", { src: card.frames[0], alt: `frame of ${card.id}` });
      box.append(picture);
      if (card.frames.length < 2) return box;
      const slider = element("input", { type: "range", min: 0, max: card.frames.length - 1, value: 0, "aria-label": "frame" });
      box.show = (at) => { slider.value = at; picture.src = card.frames[at]; };
      slider.addEventListener("input", () => box.show(Number(slider.value)));
      box.append(slider);
      return box;
    }

    function sound(card, pictures) {
      const player = element("audio", { controls: "", preload: "metadata", src: card.sound, "aria-label": `sound of ${card.id}` });
      player.addEventListener("timeupdate", () => {
        const part = player.currentTime / (player.duration || 1);
        if (pictures?.show) pictures.show(Math.min(card.frames.length - 1, Math.floor(part * card.frames.length)));
      });
      return player;
    }

    function near(list) {
      const box = element("div", { class: "mx-near" }), rows = element("ol");
      box.append(element("h4", {}, list.title));
      if (list.note) box.append(element("p", {}, list.note));
      for (const one of list.rows) {
        const item = element("li", one.right ? { class: "mx-right" } : {});
        const button = element("button", { type: "button", "data-clip": one.clip });
        if (one.picture) button.append(element("img", { src: one.picture, alt: "" }));
        const words = element("span", { class: "mx-caption" }, one.caption);
        if (one.right) words.prepend(element("strong", {}, "✓ right clip: "));
        button.append(words, element("span", { class: "mx-score" }, one.score.toFixed(3)));
        button.addEventListener("click", () => model.send({ kind: "open", clip: one.clip }));
        item.append(button);
        rows.append(item);
      }
      box.append(rows);
      return box;
    }

    function draw() {
      const card = model.get("card");
      root.replaceChildren();
      if (!card.id) return void root.append(element("p", { class: "mx-hint" }, model.get("hint")));
      const top = element("div", { class: "mx-top" }), words = element("div", { class: "mx-said" });
      const pictures = card.frames.length ? frames(card) : null;
      words.append(element("h4", {}, card.id), element("blockquote", {}, card.caption || "(no caption)"));
      if (card.sound) words.append(sound(card, pictures));
      for (const note of card.notes) words.append(element("p", { class: "mx-note" }, note));
      const facts = element("dl");
      for (const [name, value] of card.facts) facts.append(element("dt", {}, name), element("dd", {}, value));
      const more = element("details");
      more.append(element("summary", {}, "what is known of it"), facts);
      words.append(more);
      top.append(...(pictures ? [pictures] : []), words);
      const lists = element("div", { class: "mx-lists" });
      lists.append(...card.lists.map(near));
      root.append(top, lists);
    }

    model.on("change:card", draw);
    draw();
    return () => model.off("change:card", draw);
  },
};
