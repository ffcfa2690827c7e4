// Light, dark, or as the system says; this browser remembers it.

import { byId, setAttribute, setText } from "./dom.js";

const KEY = "natmirror-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };

// A browser that stores nothing refuses both.
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    return;
  }
}

export function watchTheme() {
  let theme = remembered();
  if (!(theme in NEXT)) theme = "system";
  const button = byId("theme");
  const show = () => {
    setAttribute(document.documentElement, "data-theme", theme);
    setText(byId("theme-name"), theme);
    setAttribute(button, "aria-label", `Theme: ${theme}. Change it to ${NEXT[theme]}`);
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    remember(theme);
    show();
  });
  show();
}
