// Ages by the server's clock: they are right also in a browser whose clock is wrong.

import { element, setText } from "./dom.js";

let ahead = 0; // milliseconds by which the server's clock is ahead of the browser's

/** Take the server's time from a response. `Date` has whole seconds, so that smaller differences are ignored. */
export function setClock(response) {
  const serverTime = Date.parse(response.headers.get("Date") ?? "");
  const difference = serverTime - Date.now();
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

/** Make an element that shows the age of a moment, and keeps it up to date. */
export function age(iso) {
  const moment = new Date(iso);
  return element("time", { datetime: iso, title: moment.toLocaleString() }, ageText(moment));
}

const ageText = (moment) => `${span((now() - moment) / 1000)} ago`;

setInterval(() => {
  if (document.hidden || document.body.classList.contains("stale")) return;
  for (const node of document.querySelectorAll("time[datetime]")) setText(node, ageText(new Date(node.dateTime)));
}, 1000);
