// The side of the page: model, load, formats, the chip's sliders, limits.
import { h, si, typed } from "./dom.js";
import { get, post } from "./api.js";

const STEPS = 1000;
let library = null;

export async function known() {
  if (!library) {
    const found = await get("/api/library");
    if (found.refused) return found;
    library = found;
  }
  return library;
}

const toStep = (c, value) => {
  if (c.stops.length) return c.stops.indexOf(c.stops.reduce((a, b) => (Math.abs(b - value) < Math.abs(a - value) ? b : a)));
  const share = c.log ? Math.log(value / c.low) / Math.log(c.high / c.low) : (value - c.low) / (c.high - c.low);
  return Math.round(Math.min(1, Math.max(0, share)) * STEPS);
};

const fromStep = (c, step) => {
  if (c.stops.length) return c.stops[step];
  const share = step / STEPS;
  const value = c.log ? c.low * (c.high / c.low) ** share : c.low + share * (c.high - c.low);
  const rounded = Number(value.toPrecision(3));
  return c.whole ? Math.max(1, Math.round(rounded)) : rounded;
};

const words = (c, value) => (c.unit ? si(value, c.unit, 4) : Number(value.toPrecision(6)).toLocaleString("en-US"));

// One slider with its exact value beside it; `moved(value)` is told of every change.
export function slider(c, value, moved) {
  const id = `s-${c.key.replace(/\W/g, "-")}`;
  const range = h("input", { type: "range", id, min: 0, max: c.stops.length ? c.stops.length - 1 : STEPS, step: 1, value: toStep(c, value) });
  const exact = h("input", { type: "text", inputmode: "decimal", "aria-label": `${c.label}, exact`, value: words(c, value) });
  const back = h("button", { type: "button", class: "back", "aria-label": `${c.label}: back to ${words(c, c.value)}`, title: `back to ${words(c, c.value)}` }, "↺");
  const line = h("div", { class: "slider" }, h("label", { for: id }, c.label), exact, back, range);
  const show = (now, keep) => {
    range.setAttribute("aria-valuetext", words(c, now));
    if (!keep) range.value = toStep(c, now);
    exact.value = words(c, now);
    line.classList.toggle("moved", now !== c.value);
  };
  const change = (now, keep) => {
    show(now, keep);
    moved(now);
  };
  range.addEventListener("input", () => {
    // The step at which the chip's own figure lies means that figure itself, not a rounded one.
    const own = Number(range.value) === toStep(c, c.value) && !c.stops.length;
    change(own ? c.value : fromStep(c, Number(range.value)), true);
  });
  exact.addEventListener("change", () => {
    const now = typed(exact.value);
    if (Number.isFinite(now) && now > 0) change(c.whole ? Math.round(now) : now);
    else show(fromStep(c, Number(range.value)));
  });
  back.addEventListener("click", () => {
    change(c.value);
    range.focus();
  });
  show(value);
  return line;
}

const LOAD = [
  { key: "batch", label: "Requests in flight", unit: "", low: 1, high: 1024, log: true, whole: true, value: 8, stops: [] },
  { key: "input_tokens", label: "Tokens of a prompt", unit: "", low: 16, high: 131072, log: true, whole: true, value: 1024, stops: [] },
  { key: "output_tokens", label: "Tokens of an answer", unit: "", low: 2, high: 16384, log: true, whole: true, value: 128, stops: [] },
  { key: "chips", label: "Chips", unit: "", low: 1, high: 64, log: true, whole: true, value: 1, stops: [1, 2, 4, 8, 16, 32, 64] },
];
const LIMITS = [
  { key: "max_power_w", label: "Power at most", unit: "W" },
  { key: "ttft_s", label: "Time to first token at most", unit: "s" },
  { key: "tpot_s", label: "Time per output token at most", unit: "s" },
  { key: "max_area_mm2", label: "Die at most, mm2", unit: "" },
  { key: "max_unit_usd", label: "Cost to make at most, USD", unit: "" },
];

export function select(label, value, options, chosen) {
  const id = `f-${label.replace(/\W/g, "-")}`;
  const field = h("select", { id, onchange: () => chosen(field.value) }, options.map(([key, text]) => h("option", { value: key }, text)));
  if (![...field.options].some((o) => o.value === value)) field.append(h("option", { value }, value));
  field.value = value;
  return h("div", {}, h("label", { for: id }, label), field);
}

// A text with suggestions; what is not among them is still told, so that the studio can say what is wrong.
export function search(label, value, options, chosen) {
  const id = `f-${label.replace(/\W/g, "-")}`;
  const list = `l-${label.replace(/\W/g, "-")}`;
  const field = h("input", { type: "search", id, list, value, autocomplete: "off", spellcheck: "false", onchange: () => field.value && chosen(field.value) });
  return h("div", {}, h("label", { for: id }, label), field, h("datalist", { id: list }, options.map((o) => h("option", { value: o }))));
}

// The whole side. `changed(state, what)` is called with what moved: "model", "chip" or a slider.
export async function side(state, changed, { limits = true, extra = [], without = [] } = {}) {
  const lib = await known();
  if (lib.refused) return { refused: lib.refused };
  const sliders = await get(`/api/controls?chip=${encodeURIComponent(state.chip)}`);
  if (sliders.refused) return { refused: sliders.refused };
  const { chip, controls, choices } = sliders;
  const model = lib.models.find((m) => m.name === state.model || m.aliases.some((a) => a.toLowerCase() === state.model.toLowerCase()));
  const tokens = !model || model.kind === "language";
  const usable = [["blank", "A blank chip"], ...lib.chips.filter((c) => !c.blank.length).map((c) => [c.name, c.title])];
  const own = state.chip.startsWith("file:") ? [[state.chip, chip.title]] : [];
  const moveChange = (c) => (value) => {
    if (value === c.value) delete state.changes[c.key];
    else state.changes[c.key] = value;
    changed(state, c.key);
  };
  const formats = [["", "published"], ...lib.formats.map((f) => [f, f])];
  const parts = [
    h("fieldset", {}, h("legend", {}, "Model and load"),
      search("Model", state.model, lib.models.map((m) => m.name), (name) => { state.model = name; changed(state, "model"); }),
      LOAD.filter((c) => (tokens || !c.key.endsWith("_tokens")) && !without.includes(c.key)).map((c) => slider(c, state[c.key], (value) => { state[c.key] = value; changed(state, c.key); }))),
    h("fieldset", {}, h("legend", {}, "Number formats"),
      h("div", { class: "row" }, [["weights", "Weights"], ["activations", "Activations"], ["kv_cache", "KV cache"]].map(([key, label]) =>
        select(label, state[key], formats, (value) => { state[key] = value; changed(state, key); })))),
    h("fieldset", {}, h("legend", {}, "Chip", Object.keys(state.changes).length + Object.keys(state.choices).length ? h("button", { type: "button", class: "plain", onclick: () => { state.changes = {}; state.choices = {}; changed(state, "chip"); } }, "undo all changes") : null),
      select("Start from", state.chip, [...own, ...usable], (name) => { state.chip = name; state.changes = {}; state.choices = {}; changed(state, "chip"); }),
      dropped((name) => { state.chip = name; state.changes = {}; state.choices = {}; changed(state, "chip"); }),
      choices.map((c) => select(c.label, state.choices[c.key] ?? c.value, c.values.map((v) => [v, v]), (v) => { if (v === c.value) delete state.choices[c.key]; else state.choices[c.key] = v; changed(state, c.key); })),
      controls.map((c) => slider({ ...c, whole: /cores$|rows|cols|lanes|bus_bytes|array|stacks/.test(c.key) }, state.changes[c.key] ?? c.value, moveChange(c)))),
  ];
  if (limits) {
    parts.push(h("fieldset", {}, h("legend", {}, "Limits", h("span", { class: "quiet hint" }, "empty: none")), LIMITS.map((l) => {
      const id = `l-${l.key}`;
      const field = h("input", { type: "text", inputmode: "decimal", id, value: state.limits[l.key] ? si(state.limits[l.key], l.unit, 4) : "", onchange: () => {
        const value = typed(field.value);
        if (value > 0) state.limits[l.key] = value;
        else delete state.limits[l.key];
        field.value = value > 0 ? si(value, l.unit, 4) : "";
        changed(state, l.key);
      } });
      return h("div", {}, h("label", { for: id }, l.label), field);
    })));
  }
  return { parts: [...extra, ...parts], chip, model };
}

// A chip's TOML: chosen or dropped; what is wrong with it is told with its line.
function dropped(taken) {
  const told = h("span", { role: "status" });
  const take = async (file) => {
    if (!file) return;
    const answer = await post("/api/chips", { text: await file.text() });
    told.textContent = answer.refused ? `${file.name}: ${answer.refused.where} ${answer.refused.message} ${answer.refused.hint ? `(${answer.refused.hint})` : ""}` : "";
    if (!answer.refused) taken(answer.name);
  };
  const input = h("input", { type: "file", accept: ".toml", "aria-label": "A chip's TOML file", onchange: () => take(input.files[0]) });
  const area = h("div", { class: "drop" }, "or drop a chip's TOML file here", input, told);
  area.addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => { event.preventDefault(); area.classList.remove("over"); take(event.dataTransfer.files[0]); });
  return area;
}
