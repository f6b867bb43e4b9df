// The state of a view, and the address that restores it.

export const FRESH = { model: "meta-llama/Llama-3.1-8B", chip: "nvidia-h100-sxm-80gb", changes: {}, choices: {}, chips: 1, batch: 8, input_tokens: 1024, output_tokens: 128, weights: "", activations: "", kv_cache: "", limits: {} };
const NUMBERS = ["chips", "batch", "input_tokens", "output_tokens"];
const TEXTS = ["model", "chip", "weights", "activations", "kv_cache"];

export function toQuery(state) {
  const query = new URLSearchParams();
  for (const key of [...TEXTS, ...NUMBERS]) if (state[key] !== FRESH[key]) query.set(key, state[key]);
  for (const table of ["changes", "choices", "limits"]) for (const [key, value] of Object.entries(state[table])) query.set(`${table}.${key}`, value);
  return query;
}

export function fromQuery(query) {
  const state = structuredClone(FRESH);
  for (const [key, value] of query) {
    const [table, ...rest] = key.split(".");
    if (table === "choices" && rest.length) state.choices[rest.join(".")] = value;
    else if ((table === "changes" || table === "limits") && rest.length) {
      if (Number.isFinite(Number(value))) state[table][rest.join(".")] = Number(value);
    } else if (NUMBERS.includes(key)) {
      const number = Number(value);
      if (Number.isInteger(number) && number > 0) state[key] = number;
    } else if (TEXTS.includes(key)) state[key] = value;
  }
  return state;
}

export function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: path || "chip", query: new URLSearchParams(query ?? "") };
}

export function address(view, query) {
  const words = query.toString();
  return `#/${view}${words ? `?${words}` : ""}`;
}

// The address follows without a new entry in the history while a slider moves.
export function rewrite(view, query) {
  history.replaceState(null, "", address(view, query));
}
