// Values and paths as text.

import { Exact } from "./api.js";
import { element } from "./dom.js";

const BARE = /^[^\s."']+$/;
const SEGMENT = /"(?:[^"\\]|\\.)*"|'[^']*'|[^."']+/y;

/** A value as JSON writes it, so that 8080 and "8080" differ. */
export function valueText(value) {
  if (value === undefined) return "nothing";
  return value instanceof Exact ? value.text : JSON.stringify(value);
}

export const valueOf = (value) => element("code", { class: "value" }, valueText(value));

/** The keys of a dotted path, which is quoted as in TOML. */
export function keysOf(path) {
  const keys = [];
  for (SEGMENT.lastIndex = 0; SEGMENT.lastIndex < path.length; SEGMENT.lastIndex += 1) {
    const found = SEGMENT.exec(path);
    if (!found) return [path];
    keys.push(unquoted(found[0]));
  }
  return keys;
}

export const pathOf = (keys) => keys.map((key) => (BARE.test(key) ? key : JSON.stringify(key))).join(".");

/** Every leaf of a document, by path. */
export function leavesOf(document, keys = [], found = new Map()) {
  const inner = document !== null && typeof document === "object" && !(document instanceof Exact);
  const entries = inner ? Object.entries(document) : [];
  if (!entries.length) found.set(pathOf(keys), document);
  for (const [key, value] of entries) leavesOf(value, [...keys, key], found);
  return found;
}

function unquoted(segment) {
  if (segment[0] === "'") return segment.slice(1, -1);
  return segment[0] === '"' ? JSON.parse(segment) : segment;
}
