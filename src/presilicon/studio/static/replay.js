// A trace, or random arrivals, served by chips: started here, run by a process of its own.
import { h, refusal, say, si, tiles, tileWidth, typed } from "./dom.js";
import { get, post, send } from "./api.js";
import { address, fromQuery, place, rewrite, toQuery } from "./state.js";
import { side } from "./controls.js";

const POLL_MS = 400;
const SERIES = [["running", "being answered", "--c0"], ["waiting", "waiting", "--c1"]];

export async function replay(view, aside) {
  const query = place().query;
  let state = fromQuery(query);
  const load = { rate_per_s: Number(query.get("rate") ?? 4), requests: Number(query.get("requests") ?? 500), replicas: Number(query.get("replicas") ?? 1), trace: query.get("trace") ?? "", title: query.get("title") ?? "" };
  const job = query.get("job");
  const words = () => {
    const q = toQuery(state);
    for (const [key, name] of [["rate", "rate_per_s"], ["requests", "requests"], ["replicas", "replicas"], ["trace", "trace"], ["title", "title"]]) if (load[name]) q.set(key, load[name]);
    return q;
  };
  const head = h("div", { class: "head" }, h("div", {}, h("h1", {}, "Replay"), h("p", {}, "Requests arrive as in a trace or at random; each step of the scheduler takes what the estimate says. Runs in a process of its own, in virtual time.")));
  const out = h("div", { class: "live" });
  view.replaceChildren(head, out);

  const number = (key, label) => {
    const id = `r-${key}`;
    const field = h("input", { type: "text", inputmode: "decimal", id, value: String(load[key] || ""), onchange: () => { load[key] = typed(field.value) || 0; rewrite("replay", words()); } });
    return h("div", {}, h("label", { for: id }, label), field);
  };
  const start = async () => {
    const answer = await post("/api/jobs", { kind: "replay", state, rate_per_s: load.rate_per_s, requests: load.requests || undefined, replicas: load.replicas, trace: load.trace || undefined, ttft_s: state.limits.ttft_s, tpot_s: state.limits.tpot_s });
    if (answer.refused) return out.replaceChildren(refusal(answer.refused));
    const q = words();
    q.set("job", answer.id);
    location.hash = address("replay", q);
  };

  async function build() {
    const told = h("span", { role: "status" }, load.trace ? `Trace: ${load.title}` : "");
    const take = async (file) => {
      if (!file) return;
      const answer = await send(`/api/traces?name=${encodeURIComponent(file.name)}`, file);
      if (answer.refused) { told.textContent = answer.refused.message; return; }
      load.trace = answer.trace;
      load.title = answer.title;
      load.requests = 0;
      rewrite("replay", words());
      await build();
    };
    const input = h("input", { type: "file", "aria-label": "A trace of requests", onchange: () => take(input.files[0]) });
    const extra = h("fieldset", {}, h("legend", {}, "Requests"),
      h("div", { class: "drop" }, "A trace: Azure's CSV, Mooncake's JSON lines, or arrival_s,input_tokens,output_tokens", input, told,
        load.trace ? h("button", { type: "button", class: "plain", onclick: async () => { load.trace = ""; load.title = ""; load.requests = 500; await build(); } }, "Leave it out") : null),
      load.trace ? null : number("rate_per_s", "Requests a second, at random"), number("requests", load.trace ? "Requests of the trace at most" : "Requests"), number("replicas", "Replicas, each of the chips below"),
      h("button", { type: "button", class: "main", onclick: start }, "Start the replay"));
    const made = await side(state, async (next, what) => {
      state = next;
      rewrite("replay", words());
      if (what === "model" || what === "chip") await build();
    }, { extra: [extra], without: load.trace ? ["batch", "input_tokens", "output_tokens"] : ["batch"] });
    if (made.refused) return out.replaceChildren(refusal(made.refused));
    aside.replaceChildren(...made.parts);
  }
  await build();

  let timer = null;
  let seen = "";
  async function watch() {
    const found = await get(`/api/jobs/${job}?width=${tileWidth(view)}`);
    if (found.refused) return out.replaceChildren(refusal(found.refused));
    const latest = found.latest ?? {};
    const line = h("div", { class: "tools" }, h("span", { class: `state ${found.state}`, role: "status" }, { running: "running", done: "done", failed: "not possible", stopped: "stopped" }[found.state]),
      found.state === "running" ? h("button", { type: "button", onclick: () => post(`/api/jobs/${job}/stop`) }, "Stop") : null,
      found.state === "done" ? h("a", { class: "button", href: `/api/jobs/${job}/report.html`, download: "" }, "Report") : null,
      found.state === "stopped" ? h("button", { type: "button", onclick: async () => { await post(`/api/jobs/${job}/resume`); watch(); } }, "Run it again") : null);
    const parts = [line];
    if (found.end?.error) parts.push(refusal(found.end.error));
    if (latest.total && !latest.report) parts.push(h("progress", { max: latest.total, value: latest.done, "aria-label": "Requests ended" }), h("p", { class: "quiet" }, `${latest.done.toLocaleString("en-US")} of ${latest.total.toLocaleString("en-US")} requests`));
    const key = `${found.state} ${latest.done}`;
    if (key !== seen) {
      seen = key;
      out.replaceChildren(...parts);
      if (latest.report) {
        out.append(summary(latest.report), zoomed(latest.timeline), tiles(h("div", { class: "live tiles" }), found.pictures));
        say("Replay done");
      }
    }
    if (found.state === "running") timer = setTimeout(watch, POLL_MS);
  }
  if (job) await watch();
  else out.replaceChildren(h("p", { class: "note" }, "Choose a load and start: the replay's latencies, queue, memory and cost are shown here."));
  return () => clearTimeout(timer);
}

function summary(report) {
  const rows = [
    ["Requests", report.requests.toLocaleString("en-US"), `${report.refused.toLocaleString("en-US")} refused`],
    ["Time to first token", si(report.ttft_s.p50, "s"), `${si(report.ttft_s.p90, "s")} at p90, ${si(report.ttft_s.p99, "s")} at p99`],
    ["Time per output token", si(report.tpot_s.p50, "s"), `${si(report.tpot_s.p90, "s")} at p90, ${si(report.tpot_s.p99, "s")} at p99`],
    ["Output tokens", si(report.output_tokens_per_s, "/s"), `goodput ${si(report.goodput_per_s)} requests/s`],
    ["Chips at work", `${(100 * report.utilization).toFixed(1)} %`, `${si(report.virtual_s, "s")} of virtual time`],
    ["Energy of a token", si(report.energy_per_token_j, "J"), `${si(report.power_w, "W")} in the mean`],
    ["Cost of 1 M tokens", report.usd_per_million_tokens === null ? "-" : `${Number(report.usd_per_million_tokens.toPrecision(3))} USD`, report.price_basis || "no price is known"],
  ];
  return h("dl", { class: "figures" }, rows.map(([name, value, range]) => {
    const [figure, ...unit] = value.split(" ");
    return h("div", {}, h("dt", {}, name), h("dd", {}, figure, unit.length ? h("small", {}, unit.join(" ")) : ""), h("dd", { class: "range" }, range));
  }));
}

// Requests over time, to zoom into by dragging; the same series stands below as a picture with its figures.
function zoomed(timeline) {
  const box = h("div", { class: "plot" }, h("h3", {}, "Requests over time"), h("p", { class: "quiet" }, "Drag to zoom in, double-click to see all."));
  if (!timeline?.start_s?.length) return box;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1 }, font: "12px system-ui" };
  const place = h("div", { role: "img", "aria-label": "Requests being answered and waiting, over the time of the replay" });
  box.append(place);
  requestAnimationFrame(() => {
    const plot = new window.uPlot({
      width: place.clientWidth || 600, height: 240, scales: { x: { time: false } }, axes: [{ ...axis, values: (_, v) => v.map((t) => si(t, "s")) }, { ...axis, values: (_, v) => v.map((t) => si(t)) }],
      series: [{ label: "time", value: (_, v) => si(v, "s") }, ...SERIES.map(([, label, tone], i) => ({ label, stroke: colour(tone), width: 1.5, dash: i ? [6, 4] : undefined, value: (_, v) => si(v) }))],
    }, [timeline.start_s, ...SERIES.map(([key]) => timeline[key])], place);
    new ResizeObserver(() => place.clientWidth && plot.setSize({ width: place.clientWidth, height: 240 })).observe(place);
  });
  return box;
}
