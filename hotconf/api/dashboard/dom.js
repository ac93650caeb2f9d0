// Elements are built here and nowhere else. Text only ever becomes a text node: a value that looks like markup is shown
// as it is.

/** Make an element. Children that are null or false are left out; any that is not a node becomes text. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set a node's text, unless it is there already: screen readers announce every write to a live region. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Replace the content of a container. Elements with a `data-key` stay open or closed, and keep the focus.
 */
export function redraw(container, ...children) {
  const open = new Map();
  for (const details of container.querySelectorAll("details[data-key]")) open.set(details.dataset.key, details.open);
  const active = document.activeElement;
  const focused = container.contains(active) ? active.closest("[data-key]")?.dataset.key : undefined;
  container.replaceChildren(...children.flat().filter(Boolean));
  for (const details of container.querySelectorAll("details[data-key]")) {
    if (open.has(details.dataset.key)) details.open = open.get(details.dataset.key);
  }
  if (focused === undefined) return;
  const again = [...container.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused);
  (again?.matches("details") ? again.querySelector("summary") : again)?.focus();
}

/** Build the first `count` items, and the others inside a disclosure. */
export function firstOf(items, count, { key, build }) {
  const shown = items.slice(0, count).map(build);
  const others = items.slice(count);
  if (!others.length) return shown;
  const more = element("details", { "data-key": key, class: "more" }, element("summary", {}, `${others.length} more`));
  more.append(...others.map(build));
  return [...shown, more];
}
