// One chip under sliders: its figures and pictures follow.
import { h, refusal, say, si, tiles, tileWidth } from "./dom.js";
import { latest, post } from "./api.js";
import { address, fromQuery, place, rewrite, toQuery } from "./state.js";
import { side } from "./controls.js";

const span = (report, key, unit) => {
  const ends = report.intervals[key];
  return ends ? `${si(ends.low, unit)} to ${si(ends.high, unit)}` : "";
};

export function keyFigures(report) {
  const tokens = report.tokens_per_s !== null;
  const share = report.memory_bytes / report.memory_limit_bytes;
  const perToken = tokens ? report.energy_j / (report.tokens_per_s * report.latency_s) : null;
  return [
    tokens ? ["Output tokens", si(report.tokens_per_s, "/s"), span(report, "tokens_per_s", "/s")] : ["Throughput", si(report.throughput_per_s, "/s"), span(report, "throughput_per_s", "/s")],
    tokens ? ["Time to first token", si(report.time_to_first_token_s, "s"), span(report, "time_to_first_token_s", "s")] : null,
    tokens ? ["Time per output token", si(report.time_per_output_token_s, "s"), span(report, "time_per_output_token_s", "s")] : null,
    ["Latency of the batch", si(report.latency_s, "s"), span(report, "latency_s", "s")],
    ["Power, all chips", si(report.power_w, "W"), ""],
    tokens ? ["Energy of a token", si(perToken, "J"), ""] : ["Energy of a sample", si(report.energy_j / report.batch, "J"), ""],
    ["Memory of a chip", si(report.memory_bytes, "B"), `${(100 * share).toFixed(0)} % of what is usable`],
  ].filter(Boolean);
}

// What the chip takes to make.
function makingFigures(answer) {
  const { making: made, usd_per_million_tokens: usd, price_basis: basis } = answer;
  const rows = [];
  if (made.unknown === undefined) {
    const spread = Math.exp(made.spread);
    const round = (v) => Number(v.toPrecision(2)).toLocaleString("en-US");
    rows.push([made.dies > 1 ? `Area of each of ${made.dies} dies` : "Area of the die", `${Number(made.area_mm2.toPrecision(3)).toLocaleString("en-US")} mm2`,
      made.published_mm2 ? `published ${made.published_mm2}, ${made.node}` : `${round(made.area_mm2 / spread)} to ${round(made.area_mm2 * spread)}, ${made.node}`]);
    rows.push(["Dies that work", `${(100 * made.die_yield).toFixed(0)} %`, `of ${Math.round(made.dies_per_wafer).toLocaleString("en-US")} on a wafer`]);
    rows.push(["Cost to make", `${Math.round(made.unit_usd).toLocaleString("en-US")} USD`, "no design cost, no margin"]);
  }
  if (usd !== null) rows.push(["1 M output tokens", `${Number(usd.toPrecision(3))} USD`, basis]);
  if (made.policy) rows.push(["Export class (US)", made.policy.eccn || "none", `TPP ${Math.round(made.policy.tpp).toLocaleString("en-US")}; not legal advice`]);
  return rows;
}

export const figureList = (rows) => h("dl", { class: "figures" }, rows.map(([name, value, range]) => {
  const [number, ...unit] = value.split(" ");
  return h("div", {}, h("dt", {}, name), h("dd", {}, number, unit.length ? h("small", {}, unit.join(" ")) : ""), range ? h("dd", { class: "range" }, range) : null);
}));

const times = [];

export async function chip(view, aside) {
  let state = fromQuery(place().query);
  const figures = h("div", { class: "live" });
  const pictures = h("div", { class: "live tiles" });
  const head = h("div", { class: "head" });
  view.replaceChildren(head, figures, pictures);

  const ask = latest(
    (question) => post("/api/estimate", question),
    (answer, since) => {
      show(answer);
      const took = performance.now() - since;
      times.push(took);
      if (times.length > 500) times.shift();
      performance.measure("slider to figures", { start: since, end: performance.now() });
      const sorted = [...times].sort((a, b) => a - b);
      document.getElementById("pace").textContent = `answered in ${took.toFixed(0)} ms; 95 % within ${sorted[Math.floor(0.95 * (sorted.length - 1))].toFixed(0)} ms`;
    },
  );

  const width = () => tileWidth(view);
  const request = (since) => {
    rewrite("chip", toQuery(state));
    ask({ ...state, width: width() }, since);
  };

  function show(answer) {
    if (answer.refused) {
      figures.replaceChildren(refusal(answer.refused));
      pictures.classList.add("stale");
      say(`Not possible: ${answer.refused.message}`);
      return;
    }
    pictures.classList.remove("stale");
    const { report, broken } = answer;
    const verdict = broken.length ? h("div", { class: "note bad" }, h("strong", {}, "Outside the limits. "), broken.join("; ") + ".") : Object.keys(state.limits).length ? h("div", { class: "note good" }, "Within all limits.") : null;
    const rows = [...keyFigures(report), ...makingFigures(answer)];
    figures.replaceChildren(...[figureList(rows), verdict].filter(Boolean));
    title(answer);
    tiles(pictures, answer.pictures);
    say(rows.slice(0, 3).map(([name, value]) => `${name} ${value}`).join(", "));
  }

  function title(answer) {
    const { report, chip: one } = answer;
    const query = encodeURIComponent(JSON.stringify(state));
    const file = (name, words) => h("a", { class: "button", href: `/download/${name}?state=${query}`, download: "" }, words);
    head.replaceChildren(
      h("div", {}, h("h1", {}, `${report.model} on ${report.chips > 1 ? `${report.chips} × ` : ""}${one.title || one.name}`),
        h("p", {}, `${report.formats} (weights, activations, KV cache); ${report.parallelism === "1" ? "" : `${report.parallelism}; `}software constants of the family ${one.family}. ${Object.keys(state.changes).length ? one.note : ""}`)),
      h("div", { class: "tools" }, file("chip.toml", "Chip (TOML)"), template ? file("verilog.zip", "Verilog") : null, file("report.html", "Report"),
        h("a", { class: "button", href: compareWith(state) }, "Compare")),
    );
  }

  let template = false;
  async function build() {
    const made = await side(state, async (next, what) => {
      const since = performance.now();
      state = next;
      if (what === "model" || what === "chip") await build();
      request(since);
    });
    if (made.refused) {
      figures.replaceChildren(refusal(made.refused));
      return;
    }
    template = made.chip.template;
    const held = document.activeElement?.id;
    aside.replaceChildren(...made.parts);
    if (held) document.getElementById(held)?.focus();
  }

  await build();
  if (aside.childElementCount) request(performance.now());
  let timer;
  const resized = () => { clearTimeout(timer); timer = setTimeout(() => request(performance.now()), 150); };
  window.addEventListener("resize", resized);
  return () => window.removeEventListener("resize", resized);
}

// The address of a comparison with this state in it, beside those that are there already.
export function compareWith(state) {
  const query = new URLSearchParams();
  for (const one of JSON.parse(sessionStorage.getItem("compared") ?? "[]").slice(0, 3)) query.append("s", one);
  query.append("s", toQuery(state).toString());
  return address("compare", query);
}
