"use strict";
// Sort and filter the table of cells; the state is in the address.
(() => {
  const form = document.getElementById("filters"), table = document.getElementById("catalogue");
  if (!form || !table) return;
  const body = table.tBodies[0], count = document.getElementById("count"), none = document.getElementById("none");
  const rows = [...body.rows].map((row, place) => ({
    row, place, text: row.dataset.text.toLowerCase(), dot: document.getElementById("dot-" + place), data: row.dataset,
  }));
  const heads = [...table.tHead.rows[0].cells], numeric = new Set(["d", "mse", "ratio", "size"]);
  const choices = ["band", "d", "family", "probe", "verdict", "license"];
  const bounds = { mse_max: "mse", ratio_min: "ratio", ratio_max: "ratio", size_max: "size" };
  const field = (name) => form.elements.namedItem(name);
  const valueOf = (name) => field(name).type === "checkbox" ? (field(name).checked ? "1" : "") : field(name).value.trim();
  const names = ["q", ...choices, ...Object.keys(bounds), "all", "sort"];

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const key = head.dataset.key;
      field("sort").value = field("sort").value === key ? "-" + key : key;
      changed();
    });
  }

  const passes = ({ data, text }) => {
    if (!field("all").checked && data.older !== undefined) return false;
    if (!valueOf("q").toLowerCase().split(/\s+/).every((word) => text.includes(word))) return false;
    if (!choices.every((name) => !field(name).value || data[name] === field(name).value)) return false;
    return Object.entries(bounds).every(([name, key]) => {
      const bound = field(name).valueAsNumber, value = parseFloat(data[key]) / (key === "size" ? 1000 : 1);
      return Number.isNaN(bound) || (name.endsWith("_min") ? value >= bound : value <= bound);
    });
  };

  const sort = () => {
    const by = field("sort").value || "name", key = by.replace("-", ""), sign = by.startsWith("-") ? -1 : 1;
    const order = (a, b) => {
      const [one, two] = [a.data[key] ?? "", b.data[key] ?? ""];
      if (one === "" || two === "") return (one === "") - (two === "") || a.place - b.place; // without a value: last
      const difference = numeric.has(key) ? one - two : (one > two) - (one < two);
      return sign * difference || a.place - b.place;
    };
    body.append(...[...rows].sort(key === "name" ? (a, b) => sign * (a.place - b.place) : order).map(({ row }) => row));
    for (const head of heads) {
      if (head.dataset.key === key) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  };

  const apply = () => {
    let shown = 0;
    for (const one of rows) {
      const passed = passes(one);
      one.row.hidden = !passed;
      one.dot?.toggleAttribute("data-off", !passed);
      shown += passed;
    }
    sort();
    const total = field("all").checked ? rows.length : rows.filter(({ data }) => data.older === undefined).length;
    count.textContent = `${shown} of ${total} ${field("all").checked ? "versions" : "cells"}`;
    none.hidden = shown > 0;
    rove();
  };

  const changed = () => {
    const state = new URLSearchParams();
    for (const name of names) {
      const value = valueOf(name);
      if (value && !(name === "sort" && value === "name")) state.set(name, value);
    }
    history.replaceState(null, "", String(state) ? "#" + state : location.pathname + location.search);
    apply();
  };

  const restore = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const name of names) {
      const value = state.get(name) ?? "";
      if (field(name).type === "checkbox") field(name).checked = value === "1";
      else field(name).value = value;
    }
    if (!field("sort").value) field("sort").value = "name";
    apply();
  };

  // The points of the chart are one stop of the tabulator key; arrows go from one to the next.
  const readout = document.getElementById("readout");
  const dots = () => rows.map(({ dot }) => dot).filter((dot) => dot && !dot.hasAttribute("data-off"))
    .sort((a, b) => a.dataset.x - b.dataset.x);
  const rove = () => {
    const known = dots();
    for (const { dot } of rows) dot?.setAttribute("tabindex", "-1");
    known[0]?.setAttribute("tabindex", "0");
  };
  const chart = document.querySelector(".scatter"); // not the drawing: one with a listener for the focus is a stop itself
  if (chart) {
    const tell = (event) => {
      const dot = event.target.closest("a.dot");
      if (dot) readout.textContent = dot.querySelector("title").textContent;
    };
    chart.addEventListener("focusin", tell);
    chart.addEventListener("mouseover", tell);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      const known = dots(), at = known.indexOf(event.target.closest("a.dot"));
      if (!step || at < 0) return;
      event.preventDefault();
      const next = known[(at + step + known.length) % known.length];
      known[at].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }

  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(changed));
  addEventListener("hashchange", restore);
  form.hidden = false;
  if (readout) readout.hidden = false;
  restore();
})();
