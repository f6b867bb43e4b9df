// Elements from values: text is always text, never markup.

export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// A figure that the studio drew: parsed apart from the page, where nothing in it can run.
export function drawn(markup) {
  const whole = new DOMParser().parseFromString(markup, "text/html");
  const figure = document.adoptNode(whole.body.firstElementChild);
  const open = kept.has(titleOf(figure));
  const details = figure.querySelector("details");
  if (details) {
    details.open = open;
    details.addEventListener("toggle", () => (details.open ? kept.add(titleOf(figure)) : kept.delete(titleOf(figure))));
  }
  return figure;
}

const kept = new Set();
const titleOf = (figure) => figure.querySelector("figcaption")?.firstChild?.textContent ?? "";

// Pictures in two columns, each always in its own; one below the other where there is no room.
const RIGHT = ["curve", "time", "energy", "cost", "wafer", "latency_front", "tpot_s", "tokens"];

export function tiles(parent, pictures, onRight = RIGHT) {
  if (parent.childElementCount !== 2) parent.replaceChildren(h("div"), h("div"));
  const names = Object.keys(pictures);
  exchange(parent.children[0], names.filter((name) => !onRight.includes(name)).map((name) => drawn(pictures[name])));
  exchange(parent.children[1], names.filter((name) => onRight.includes(name)).map((name) => drawn(pictures[name])));
  return parent;
}

// Figures with the same title are exchanged in place, so that neither the scroll nor the focus moves.
function exchange(parent, figures) {
  const old = [...parent.children];
  if (old.length === figures.length) figures.forEach((figure, i) => old[i].replaceWith(figure));
  else parent.replaceChildren(...figures);
}

const PREFIXES = { "-15": "f", "-12": "p", "-9": "n", "-6": "µ", "-3": "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E" };

export function si(value, unit = "", digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (value === 0) return `0 ${unit}`.trimEnd();
  let exponent = Math.min(18, Math.max(-15, 3 * Math.floor(Math.log10(Math.abs(value)) / 3)));
  let shown = Number((value / 10 ** exponent).toPrecision(digits));
  if (Math.abs(shown) >= 1000 && exponent < 18) {
    exponent += 3;
    shown = Number((value / 10 ** exponent).toPrecision(digits));
  }
  return `${shown} ${PREFIXES[exponent]}${unit}`.trimEnd();
}

const FACTORS = { f: 1e-15, p: 1e-12, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, K: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };

// What a person types: 132, 1.9G, 80 GB, 3.35e12.
export function typed(words) {
  const found = /^\s*([0-9][0-9, ]*\.?[0-9]*(?:e[+-]?[0-9]+)?)\s*([a-zA-Zµ]?)/.exec(words);
  if (!found) return NaN;
  const number = Number(found[1].replace(/[, ]/g, ""));
  return number * (FACTORS[found[2]] ?? 1);
}

export function say(words) {
  document.getElementById("said").textContent = words;
}

export function refusal(refused) {
  return h("div", { class: "note bad", role: "alert" }, h("strong", {}, "Not possible. "), refused.where ? `${refused.where}: ` : "",
    refused.message, refused.hint ? h("span", { class: "quiet" }, ` (${refused.hint})`) : "");
}

// Width of a picture in a view whose pictures stand side by side where there is room.
export function tileWidth(view) {
  const style = getComputedStyle(view);
  const inner = view.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const columns = Math.max(1, Math.floor((inner + 20) / 460));
  return Math.round(Math.max(320, (inner - 20 * (columns - 1)) / columns - 38));
}
