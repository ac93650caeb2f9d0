// Ages by the server's clock: a browser whose own clock is wrong still shows the right ones.

import { element, setText } from "./dom.js";

let ahead = 0; // milliseconds by which the server's clock is ahead of ours

/** Take the server's time from an answer. Its `Date` has whole seconds: smaller differences are not worth a correction. */
export function setClock(response) {
  const theirs = Date.parse(response.headers.get("Date") ?? "");
  const difference = theirs - Date.now();
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}

export const now = () => Date.now() + ahead;

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];

/** A length of time in its largest unit: `42 s`, `3 min`. */
export function span(seconds) {
  const [size, unit] = UNITS.find(([length]) => seconds >= length) ?? [1, "s"];
  return `${Math.max(0, Math.floor(seconds / size))} ${unit}`;
}

export const clock = (moment) => moment.toLocaleTimeString([], { hour12: false });

/** An element that says how long ago a moment was, and goes on doing so. */
export function age(iso) {
  const moment = new Date(iso);
  return element("time", { datetime: iso, title: moment.toLocaleString() }, ageText(moment));
}

const ageText = (moment) => `${span((now() - moment) / 1000)} ago`;

setInterval(() => {
  if (document.hidden || document.body.classList.contains("stale")) return;
  for (const node of document.querySelectorAll("time[datetime]")) setText(node, ageText(new Date(node.dateTime)));
}, 1000);
