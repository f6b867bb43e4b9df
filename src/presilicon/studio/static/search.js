// A search for a chip: started here, run by a process of its own, watched while its front grows.
import { h, refusal, say, si, tiles, tileWidth, typed } from "./dom.js";
import { get, post } from "./api.js";
import { address, FRESH, place, rewrite } from "./state.js";
import { known, search as suggestions, select } from "./controls.js";

const POLL_MS = 400;
const MOST_ROWS = 15;
const NUMBERS = [
  ["input_tokens", "Tokens of a prompt", "", 1024],
  ["output_tokens", "Tokens of an answer", "", 128],
  ["chips", "Chips at most", "", 1],
  ["max_power_w", "Power of all chips at most", "W", 0],
  ["max_area_mm2", "Die at most, mm2", "", 0],
  ["max_unit_usd", "Cost of a chip at most, USD", "", 0],
  ["ttft_s", "Time to first token at most", "s", 0],
  ["tpot_s", "Time per output token at most", "s", 0],
  ["budget", "Designs to evaluate", "", 100000],
  ["seed", "Seed", "", 0],
];
const TOLD = { running: "running", done: "done", failed: "not possible", stopped: "stopped" };
const count = (n) => n.toLocaleString("en-US");

export async function search(view, aside) {
  const query = place().query;
  const job = query.get("job");
  const asked = { model: query.get("model") ?? FRESH.model, objective: query.get("objective") ?? "", node: query.get("node") ?? "", memory: query.get("memory") ?? "" };
  for (const [key, , , start] of NUMBERS) asked[key] = Number(query.get(key) ?? start) || 0;
  const words = () => {
    const q = new URLSearchParams();
    for (const [key, value] of Object.entries(asked)) if (value && value !== (NUMBERS.find((n) => n[0] === key)?.[3] ?? "")) q.set(key, value);
    return q;
  };
  const changed = () => rewrite("search", words());
  const lib = await known();
  if (lib.refused) return view.replaceChildren(refusal(lib.refused));
  const out = h("div", { class: "live" });
  view.replaceChildren(h("div", { class: "head" }, h("div", {}, h("h1", {}, `A chip for ${asked.model}`), h("p", {}, "Every design is estimated whole: latency, energy, memory, area, cost, and the limits of reticle, die edge and power. It runs in a process of its own; what it has found is kept, and goes on where it was."))), out);

  const start = async () => {
    const body = { kind: "search", ...asked };
    for (const key of Object.keys(body)) if (!body[key]) delete body[key];
    const answer = await post("/api/jobs", body);
    if (answer.refused) return out.replaceChildren(refusal(answer.refused));
    const q = words();
    q.set("job", answer.id);
    location.hash = address("search", q);
  };
  const any = (values) => [["", "any"], ...values.map((v) => [v, v])];
  aside.replaceChildren(
    h("fieldset", {}, h("legend", {}, "What it is for"),
      suggestions("Model", asked.model, lib.models.map((m) => m.name), (name) => { asked.model = name; changed(); }),
      select("Objective", asked.objective || lib.objectives[0], lib.objectives.map((o) => [o, o.replaceAll("-", " ")]), (v) => { asked.objective = v; changed(); }),
      select("Process node", asked.node, any(lib.axes.node), (v) => { asked.node = v; changed(); }),
      select("Memory", asked.memory, any(lib.axes.memory), (v) => { asked.memory = v; changed(); })),
    h("fieldset", {}, h("legend", {}, "Load, limits, effort", h("span", { class: "quiet hint" }, "an empty limit: none")), NUMBERS.map(([key, label, unit]) => {
      const id = `q-${key}`;
      const show = () => (asked[key] || key === "seed" ? (unit ? si(asked[key], unit, 4) : count(asked[key])) : "");
      const field = h("input", { type: "text", inputmode: "decimal", id, value: show(), onchange: () => { asked[key] = typed(field.value) || 0; field.value = show(); changed(); } });
      return h("div", {}, h("label", { for: id }, label), field);
    }), h("button", { type: "button", class: "main", onclick: start }, "Start the search")),
    ...[await others(job)].filter(Boolean),
  );

  const status = h("div", { class: "live" });
  const pictures = h("div", { class: "live tiles" });
  const table = h("figure", { hidden: true });
  let timer = null;
  let seen = "";
  async function watch() {
    const found = await get(`/api/jobs/${job}?width=${tileWidth(view)}`);
    if (found.refused) return out.replaceChildren(refusal(found.refused));
    const latest = found.latest ?? {};
    const again = async (what) => { await post(`/api/jobs/${job}/${what}`); seen = ""; clearTimeout(timer); watch(); };
    const key = `${found.state} ${latest.evaluated}`;
    if (key !== seen) {
      seen = key;
      const held = document.activeElement?.id;
      status.replaceChildren(
        h("div", { class: "tools" }, h("span", { class: `state ${found.state}`, role: "status" }, TOLD[found.state]),
          found.state === "running" ? h("button", { type: "button", id: "stop", onclick: () => again("stop") }, "Stop") : null,
          found.state === "stopped" ? h("button", { type: "button", id: "resume", onclick: () => again("resume") }, "Resume") : null,
          found.state === "done" ? h("a", { class: "button", href: `/api/jobs/${job}/report.html`, download: "" }, "Report") : null),
        ...(found.end?.error ? [refusal(found.end.error)] : []),
        ...(latest.budget ? [h("progress", { max: latest.budget, value: latest.evaluated, "aria-label": "Designs evaluated" }),
          h("p", { class: "quiet" }, `${count(latest.evaluated)} of ${count(latest.budget)} designs, ${count(latest.feasible)} within all limits, ${count(Math.round(latest.designs_per_s))} a second; ${latest.front.length} not beaten by another.`)] : []));
      if (held) document.getElementById(held)?.focus();
      if (latest.best) {
        tiles(pictures, found.pictures);
        table.hidden = false;
        table.replaceChildren(h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Designs of the front" }, front(latest, found.about)));
      }
      if (found.state !== "running") say(`Search ${TOLD[found.state]}`);
    }
    if (found.state === "running") timer = setTimeout(watch, POLL_MS);
  }
  if (job) {
    out.replaceChildren(status, pictures, table);
    await watch();
  } else out.replaceChildren(h("p", { class: "note" }, "Choose a model and limits, and start: the Pareto front of cost, energy and latency grows here. Each design of it opens under the sliders."));
  return () => clearTimeout(timer);
}

const COLUMNS = [["usd_per_million_tokens", "USD per M tokens", ""], ["energy_j_per_token", "Energy of a token", "J"], ["time_per_output_token_s", "Time per token", "s"], ["tokens_per_s", "Tokens a second", "/s"], ["area_mm2", "Die, mm2", ""], ["unit_usd", "Cost to make, USD", ""]];
const USE = ["chips", "batch", "parallelism"];

// The front by the objective, the best first; each opens as a blank chip with its values.
function front(latest, about) {
  const chosen = JSON.stringify(latest.best.fields);
  const same = (one) => JSON.stringify(one.fields) === chosen;
  const rows = [...latest.front].sort((a, b) => same(b) - same(a) || a.figures.usd_per_million_tokens - b.figures.usd_per_million_tokens).slice(0, MOST_ROWS);
  const shown = COLUMNS.filter(([key]) => rows.some((r) => Number.isFinite(r.figures[key])));
  return h("table", {}, h("caption", {}, `The chosen design first, then by cost; ${rows.length} of ${latest.front.length}. Figures are those of a system kept full of requests; each design opens under the sliders, for one batch.`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Design"), shown.map(([, label]) => h("th", { scope: "col", class: "number" }, label)), h("th", { scope: "col" }, "Made of"))),
    h("tbody", {}, rows.map((r) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: opened(r, about, latest.runs_in[r.fields.formats]) }, r.name), same(r) ? " (chosen)" : ""),
      shown.map(([key, , unit]) => h("td", { class: "number" }, unit ? si(r.figures[key], unit) : Number(r.figures[key].toPrecision(3)).toLocaleString("en-US"))),
      h("td", { class: "one" }, `${r.fields.cores} cores of ${r.fields.array} × ${r.fields.array}, ${r.fields.stacks} × ${r.fields.memory}, ${r.fields.node}, batch ${r.fields.batch}`)))));
}

function opened(one, about, formats) {
  const query = new URLSearchParams({ model: about.model, chip: "blank" });
  for (const [key, value] of Object.entries(one.fields)) if (!USE.includes(key)) query.set(`${typeof value === "string" ? "choices" : "changes"}.${key}`, value);
  // "TP2xPP4": experts are spread over chips that are counted already.
  const ways = String(one.fields.parallelism ?? "1").match(/[TPD]P\d+/g) ?? [];
  query.set("chips", ways.reduce((chips, way) => chips * Number(way.slice(2)), 1));
  query.set("batch", one.fields.batch ?? 1);
  ["weights", "activations", "kv_cache"].forEach((key, i) => query.set(key, formats[i]));
  for (const key of ["input_tokens", "output_tokens"]) if (about[key]) query.set(key, about[key]);
  return address("chip", query);
}

// Searches of this workspace, to come back to.
async function others(current) {
  const found = await get("/api/jobs");
  const mine = (found.jobs ?? []).filter((j) => j.about?.kind === "search" && j.id !== current).slice(0, 8);
  return mine.length ? h("fieldset", {}, h("legend", {}, "Other searches"), mine.map((j) => h("p", {}, h("a", { href: address("search", new URLSearchParams({ model: j.about.model, job: j.id })) }, j.about.model), h("span", { class: "quiet" }, ` ${TOLD[j.state]}`)))) : null;
}
