"use strict";
// The theme, and buttons that copy commands.
(() => {
  const root = document.documentElement, button = document.getElementById("theme"), themes = ["system", "light", "dark"];
  const show = () => { button.textContent = "Theme: " + (root.dataset.theme || "system"); };
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem("batteries-theme", next); } catch { /* not kept */ }
    show();
  });
  button.hidden = false;
  show();

  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  for (const box of document.querySelectorAll(".code")) {
    const copy = document.createElement("button");
    copy.type = "button";
    copy.textContent = "Copy";
    copy.setAttribute("aria-label", "Copy: " + box.dataset.name);
    copy.addEventListener("click", async () => {
      const code = box.querySelector("code");
      let done = true;
      try { await navigator.clipboard.writeText(code.textContent); } catch { select(code); done = document.execCommand("copy"); }
      copy.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
    box.append(copy);
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address keeps the state of the table
    document.getElementById("main").focus();
  });
})();
