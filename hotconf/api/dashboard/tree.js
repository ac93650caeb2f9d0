// The effective configuration as a tree: nested lists of disclosures. A section shows its values; a value shows what it
// shadows.

import { getExact } from "./api.js";
import { element, redraw, setText } from "./dom.js";
import { keysOf, valueOf, valueText } from "./values.js";

const OPEN_BELOW = 400; // up to so many values, sections are open at first

export class Tree {
  #container;
  #count;
  #filter;
  #leaves = new Map();
  #items = new Map();
  #marks = new Map();

  constructor(container, { count, filter }) {
    this.#container = container;
    this.#count = count;
    this.#filter = filter;
    filter.addEventListener("input", () => this.#narrow());
  }

  /** The values by path, as they were shown last. */
  get leaves() { return this.#leaves; }

  /** Show a response of `/explain`. Values that differ from those shown before are marked until the next change. */
  show(answer, { compare }) {
    if (answer.unavailable) return this.#showNothing(answer.unavailable);
    const before = this.#leaves;
    this.#leaves = new Map(answer.values.map((leaf) => [leaf.path, leaf]));
    const fresh = compare ? differences(before, this.#leaves) : new Map();
    if (fresh.size) this.#marks = fresh;
    if (!this.#hasItemsFor(answer.values)) this.#build(answer.values);
    for (const leaf of answer.values) fill(this.#items.get(leaf.path), leaf, this.#marks.get(leaf.path));
    return this.#narrow();
  }

  #showNothing(reason) {
    this.#items = new Map();
    this.#container.replaceChildren(element("p", { class: "quiet" }, `Not available: ${reason}`));
  }

  #hasItemsFor(leaves) {
    return leaves.length === this.#items.size && leaves.every((leaf) => this.#items.has(leaf.path));
  }

  #build(leaves) {
    this.#items = new Map(leaves.map((leaf) => [leaf.path, leafItem(leaf.path)]));
    redraw(this.#container, branch(treeOf(this.#items), { open: leaves.length < OPEN_BELOW }));
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    let shown = 0;
    for (const item of this.#items.values()) {
      item.hidden = !item.dataset.text.includes(wanted);
      shown += item.hidden ? 0 : 1;
    }
    for (const section of [...this.#container.querySelectorAll("li.section")].reverse()) {
      section.hidden = !section.querySelector("li.leaf:not([hidden])");
      if (wanted && !section.hidden) section.querySelector("details").open = true;
    }
    setText(this.#count, wanted ? `${shown} of ${this.#items.size} values` : `${this.#items.size} values`);
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

/** Nested maps of items, by the keys of their paths. */
function treeOf(items) {
  const root = new Map();
  for (const [path, item] of items) {
    const keys = keysOf(path);
    const last = keys.pop();
    let at = root;
    for (const key of keys) {
      if (!(at.get(key) instanceof Map)) at.set(key, new Map());
      at = at.get(key);
    }
    at.set(last, item);
  }
  return root;
}

function branch(tree, options, path = "") {
  const items = [...tree].map(([key, inner]) =>
    inner instanceof Map ? section(key, inner, options, `${path}/${key}`) : inner);
  return element("ul", {}, items);
}

function section(key, inner, options, path) {
  const summary = element("summary", {}, element("span", { class: "key" }, key));
  const details = element("details", { open: options.open, "data-key": path }, summary, branch(inner, options, path));
  return element("li", { class: "section" }, details);
}

function leafItem(path) {
  const details = element("details", { "data-key": path }, element("summary"));
  details.addEventListener("toggle", () => details.open && explain(details));
  return element("li", { class: "leaf" }, details);
}

/** Update the item of a leaf, unless it shows the same already. */
function fill(item, leaf, mark) {
  const details = item.firstChild;
  if (details.open) explain(details);
  const text = `${leaf.path} ${valueText(leaf.value)} ${leaf.origin} ${mark ?? ""}`.toLowerCase();
  if (text === item.dataset.text) return;
  item.dataset.text = text;
  item.classList.toggle("changed", mark !== undefined);
  details.firstChild.replaceChildren(
    element("span", { class: "key" }, keysOf(leaf.path).at(-1)),
    element("span", {}, valueOf(leaf.value), mark ? element("span", { class: "mark" }, mark) : null),
    element("span", { class: "origin" }, leaf.origin),
  );
}

async function explain(details) {
  let body = details.querySelector(".explanation");
  if (!body) details.append(body = element("div", { class: "explanation" }, "…"));
  try {
    body.replaceChildren(...explanation(await getExact(`explain/${encodeURIComponent(details.dataset.key)}`)));
  } catch (error) {
    body.replaceChildren(`Not available: ${error.message}`);
  }
}

function explanation({ path, origin, shadowed }) {
  const from = element("p", {}, element("code", {}, path), " comes from ", element("code", {}, origin));
  if (!shadowed.length) return [from, element("p", { class: "quiet" }, "It shadows no other value.")];
  const entries = shadowed.map((entry) =>
    element("li", {}, "shadows ", valueOf(entry.value), " from ", element("code", {}, entry.origin)));
  return [from, element("ul", {}, entries)];
}
