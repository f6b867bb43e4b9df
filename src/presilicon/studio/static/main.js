// Which view the address names.
import { h } from "./dom.js";
import { place } from "./state.js";
import { chip } from "./chip.js";
import { compare } from "./compare.js";
import { replay } from "./replay.js";
import { search } from "./search.js";

const VIEWS = { chip: ["Chip", chip], compare: ["Compare", compare], search: ["Search", search], replay: ["Replay", replay] };
let leave = null;
let shown = "";

async function go() {
  const { view: name } = place();
  const [title, show] = VIEWS[name] ?? VIEWS.chip;
  document.getElementById("views").replaceChildren(...Object.entries(VIEWS).map(([key, [words]]) => h("a", { href: `#/${key}`, "aria-current": key === name ? "page" : null }, words)));
  document.title = `${title} · presilicon studio`;
  leave?.();
  leave = null;
  const view = document.getElementById("view");
  const aside = document.getElementById("side");
  view.setAttribute("aria-label", title);
  if (shown && shown !== name) view.focus({ preventScroll: true });
  shown = name;
  aside.replaceChildren();
  leave = await show(view, aside);
}

const settings = document.getElementById("settings");
settings.addEventListener("click", () => {
  const open = document.getElementById("side").classList.toggle("open");
  settings.setAttribute("aria-expanded", String(open));
});
window.addEventListener("hashchange", go);
go();
