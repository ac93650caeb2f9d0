// The effective configuration as a tree: nested lists of disclosures. A section shows its values; a value shows what it
// shadows.

import { getExact } from "./api.js";
import { element, redraw, setText } from "./dom.js";
import { keysOf, valueOf, valueText } from "./values.js";

const OPEN_BELOW = 400; // so many values are shown at once; of more, only the sections

export class Tree {
  #container;
  #count;
  #filter;
  #leaves = new Map();
  #marks = new Map();

  constructor(container, { count, filter }) {
    this.#container = container;
    this.#count = count;
    this.#filter = filter;
    filter.addEventListener("input", () => this.#narrow());
  }

  /** The values by path, as they were shown last. */
  get leaves() { return this.#leaves; }

  /** Show an answer of `/explain`. What differs from what was shown before is marked until the next change. */
  show(answer, { compare }) {
    if (answer.unavailable) {
      this.#container.replaceChildren(element("p", { class: "quiet" }, `Not available: ${answer.unavailable}`));
      return;
    }
    const before = this.#leaves;
    this.#leaves = new Map(answer.values.map((leaf) => [leaf.path, leaf]));
    const fresh = compare ? differences(before, this.#leaves) : new Map();
    if (fresh.size) this.#marks = fresh;
    const options = { marks: this.#marks, open: answer.values.length < OPEN_BELOW };
    redraw(this.#container, branch(treeOf(answer.values), options));
    this.#narrow();
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    let shown = 0;
    for (const item of this.#container.querySelectorAll("li.leaf")) {
      item.hidden = !item.dataset.text.includes(wanted);
      shown += item.hidden ? 0 : 1;
    }
    for (const section of [...this.#container.querySelectorAll("li.section")].reverse()) {
      section.hidden = !section.querySelector("li.leaf:not([hidden])");
      if (wanted && !section.hidden) section.querySelector("details").open = true;
    }
    const all = this.#leaves.size;
    setText(this.#count, wanted ? `${shown} of ${all} values` : `${all} values`);
  }
}

function differences(before, after) {
  const found = new Map();
  for (const [path, leaf] of after) {
    const old = before.get(path);
    if (!old) found.set(path, "new");
    else if (valueText(old.value) !== valueText(leaf.value)) found.set(path, `was ${valueText(old.value)}`);
  }
  return found;
}

function treeOf(leaves) {
  const root = new Map();
  for (const leaf of leaves) {
    const keys = keysOf(leaf.path);
    const last = keys.pop();
    let at = root;
    for (const key of keys) {
      if (!(at.get(key) instanceof Map)) at.set(key, new Map());
      at = at.get(key);
    }
    at.set(last, leaf);
  }
  return root;
}

function branch(tree, options, path = "") {
  const items = [...tree].map(([key, inner]) =>
    inner instanceof Map ? section(key, inner, options, `${path}/${key}`) : leafItem(key, inner, options));
  return element("ul", {}, items);
}

function section(key, inner, options, path) {
  const summary = element("summary", {}, element("span", { class: "key" }, key));
  const details = element("details", { open: options.open, "data-key": path }, summary, branch(inner, options, path));
  return element("li", { class: "section" }, details);
}

function leafItem(key, leaf, { marks }) {
  const mark = marks.get(leaf.path);
  const summary = element(
    "summary",
    {},
    element("span", { class: "key" }, key),
    element("span", {}, valueOf(leaf.value), mark ? element("span", { class: "mark" }, mark) : null),
    element("span", { class: "origin" }, leaf.origin),
  );
  const details = element("details", { "data-key": leaf.path }, summary);
  details.addEventListener("toggle", () => details.open && explain(details, leaf.path));
  const text = `${leaf.path} ${valueText(leaf.value)} ${leaf.origin}`.toLowerCase();
  return element("li", { class: mark ? "leaf changed" : "leaf", "data-text": text }, details);
}

async function explain(details, path) {
  const body = element("div", { class: "explanation" }, "…");
  details.querySelector(".explanation")?.remove();
  details.append(body);
  try {
    body.replaceChildren(...explanation(await getExact(`explain/${encodeURIComponent(path)}`)));
  } catch (error) {
    body.replaceChildren(`Not available: ${error.message}`);
  }
}

function explanation({ path, origin, shadowed }) {
  const from = element("p", {}, element("code", {}, path), " comes from ", element("code", {}, origin));
  if (!shadowed.length) return [from, element("p", { class: "quiet" }, "It shadows nothing.")];
  const entries = shadowed.map((entry) =>
    element("li", {}, "shadows ", valueOf(entry.value), " from ", element("code", {}, entry.origin)));
  return [from, element("ul", {}, entries)];
}
