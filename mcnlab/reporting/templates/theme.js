"use strict";
// Light or dark, before the page is seen: as the reader chose on an earlier page, else as the system asks.
(() => {
  const KEY = "mcnlab-theme", THEMES = ["auto", "light", "dark"], WORDS = { auto: "as the system", light: "light", dark: "dark" };
  const root = document.documentElement;
  const kept = () => { try { return localStorage.getItem(KEY); } catch { return null; } };  // some browsers refuse this for files
  const keep = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* it holds until the page is closed */ } };
  const set = (theme) => { root.dataset.theme = THEMES.includes(theme) ? theme : "auto"; };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  root.classList.add("scripted");
  set(kept());
  const told = () => root.dispatchEvent(new CustomEvent("themechange"));
  dark.addEventListener("change", told);
  window.isDark = () => (root.dataset.theme === "auto" ? dark.matches : root.dataset.theme === "dark");

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const say = () => { button.querySelector("span").textContent = WORDS[root.dataset.theme]; };
    button.addEventListener("click", () => {
      set(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]);
      keep(root.dataset.theme);
      say();
      told();
    });
    say();
  });
})();
