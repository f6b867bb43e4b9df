// Up to four chips side by side, each a state of its own.
import { h, refusal, si, tiles, tileWidth } from "./dom.js";
import { get, post } from "./api.js";
import { address, fromQuery, place, toQuery } from "./state.js";
import { known, search, select } from "./controls.js";

const MOST = 4;
const ROWS = [
  ["tokens_per_s", "Output tokens a second", "/s", false],
  ["throughput_per_s", "Requests a second", "/s", false],
  ["time_to_first_token_s", "Time to first token", "s", true],
  ["time_per_output_token_s", "Time per output token", "s", true],
  ["latency_s", "Latency of the batch", "s", true],
  ["power_w", "Power, all chips", "W", true],
  ["energy_j", "Energy of the batch", "J", true],
  ["memory_bytes", "Memory of a chip", "B", true],
  ["area_mm2", "Area of all dies of a chip", "mm2", true],
  ["unit_usd", "Cost to make one chip", "USD", true],
  ["usd_per_million_tokens", "1 M output tokens", "USD", true],
];

// Money and areas in full, the rest with prefixes.
const figure = (value, unit) => (value !== null && (unit === "USD" || unit === "mm2") ? `${Number(value.toPrecision(3)).toLocaleString("en-US")} ${unit}` : si(value, unit));

export async function compare(view, aside) {
  const lib = await known();
  const given = place().query.getAll("s").slice(0, MOST);
  const states = (given.length ? given : ["", "chip=nvidia-h200-sxm-141gb", "chip=amd-instinct-mi300x"]).map((q) => fromQuery(new URLSearchParams(q)));
  const keep = () => {
    const query = new URLSearchParams();
    const all = states.map((s) => toQuery(s).toString());
    all.forEach((q) => query.append("s", q));
    sessionStorage.setItem("compared", JSON.stringify(all));
    return query;
  };
  const go = () => { location.hash = address("compare", keep()); };
  if (lib.refused) return view.replaceChildren(refusal(lib.refused));
  const usable = [["blank", "A blank chip"], ...lib.chips.filter((c) => !c.blank.length).map((c) => [c.name, c.title])];
  keep();
  aside.replaceChildren(
    h("fieldset", {}, h("legend", {}, "Same model and load for all"),
      search("Model", states[0].model, lib.models.map((m) => m.name), (name) => { states.forEach((s) => { s.model = name; }); go(); }),
      [["batch", "Requests in flight"], ["input_tokens", "Tokens of a prompt"], ["output_tokens", "Tokens of an answer"]].map(([key, label]) => {
        const field = h("input", { type: "text", inputmode: "numeric", id: `c-${key}`, value: String(states[0][key]), onchange: () => {
          const number = Math.round(Number(field.value));
          if (number >= 1) { states.forEach((s) => { s[key] = number; }); go(); }
        } });
        return h("div", {}, h("label", { for: `c-${key}` }, label), field);
      })),
    h("fieldset", {}, h("legend", {}, "Chips"),
      states.map((s, i) => h("div", {},
        select(`Chip ${i + 1}${Object.keys(s.changes).length ? " (changed)" : ""}`, s.chip, s.chip.startsWith("file:") ? [[s.chip, "a file of yours"], ...usable] : usable, (name) => { s.chip = name; s.changes = {}; s.choices = {}; go(); }),
        select(`How many of chip ${i + 1}`, String(s.chips), [1, 2, 4, 8, 16, 32, 64].map((n) => [String(n), String(n)]), (n) => { s.chips = Number(n); go(); }))),
      states.length < MOST ? h("button", { type: "button", onclick: () => { states.push(structuredClone(states.at(-1))); go(); } }, "Add a chip") : null),
  );
  view.replaceChildren(h("p", { class: "quiet" }, "Comparing …"));
  const answer = await post("/api/compare", { states, width: tileWidth(view) });
  if (answer.refused) return view.replaceChildren(refusal(answer.refused));
  const columns = answer.columns;
  const name = (c, i) => (c.refused ? states[i].chip : `${c.report.chips > 1 ? `${c.report.chips} × ` : ""}${c.title}`);
  const best = (key, less) => {
    const values = columns.filter((c) => !c.refused && c.report[key] !== null).map((c) => c.report[key]);
    return new Set(values).size > 1 ? Math[less ? "min" : "max"](...values) : null;
  };
  const table = h("table", {}, h("caption", {}, "A dot marks the best of a row. Energy, power and rates are of all chips of a column together."),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Figure"), columns.map((c, i) => h("th", { scope: "col", class: "number" }, name(c, i))))),
    h("tbody", {},
      ROWS.filter(([key]) => columns.some((c) => !c.refused && c.report[key] !== null)).map(([key, label, unit, less]) => {
        const top = best(key, less);
        return h("tr", {}, h("th", { scope: "row" }, label), columns.map((c) => h("td", { class: `number${!c.refused && c.report[key] === top ? " best" : ""}` }, c.refused ? "-" : figure(c.report[key], unit))));
      }),
      h("tr", {}, h("th", { scope: "row" }, "Sharing and formats"), columns.map((c) => h("td", { class: "number" }, c.refused ? "-" : c.report.formats, h("br"), c.refused || c.report.parallelism === "1" ? "" : c.report.parallelism))),
      h("tr", {}, h("th", { scope: "row" }, ""), columns.map((c, i) => h("td", { class: "number" },
        h("a", { href: address("chip", toQuery(states[i])) }, "Change"), " ",
        states.length > 1 ? h("button", { type: "button", class: "plain", "aria-label": `Remove ${name(c, i)}`, onclick: () => { states.splice(i, 1); go(); } }, "Remove") : "")))));
  view.replaceChildren(
    h("div", { class: "head" }, h("div", {}, h("h1", {}, `${states[0].model}, side by side`), h("p", {}, `${states[0].batch} requests in flight, ${states[0].input_tokens} tokens in and ${states[0].output_tokens} out, unless a column says otherwise.`))),
    ...columns.map((c, i) => (c.refused ? h("div", {}, h("strong", {}, `${states[i].chip}: `), refusal(c.refused)) : null)).filter(Boolean),
    h("figure", {}, h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Figures side by side" }, table)),
    tiles(h("div", { class: "live tiles" }), answer.pictures, ["time", "cost"]),
  );
  return null;
}
