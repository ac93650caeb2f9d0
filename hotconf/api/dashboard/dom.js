// Elements are built here and nowhere else. Text only ever becomes a text node: a value that looks like markup is shown
// as it is.

/** An element; null and false among the children are left out, anything that is no node becomes text. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Show text, touching nothing where it is there already: a live region speaks when it is written to. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Replace what a container holds, and leave the reader where they were: whatever bears a `data-key` stays open or shut,
 * and keeps the focus.
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

/** The first few of many, and the others behind a disclosure. */
export function firstOf(items, count, { key, build }) {
  const shown = items.slice(0, count).map(build);
  const others = items.slice(count);
  if (!others.length) return shown;
  const more = element("details", { "data-key": key, class: "more" }, element("summary", {}, `${others.length} more`));
  more.append(...others.map(build));
  return [...shown, more];
}
