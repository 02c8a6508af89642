"use strict";
try {
  const theme = localStorage.getItem("batteries-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* no storage: the system's theme */ }
