// The panels around the tree: verdict, facts, sources, pending restarts, history and reloads.

import { byId, element, firstOf, redraw, setText } from "./dom.js";
import { age, span } from "./time.js";
import { valueOf } from "./values.js";

const TONES = { applied: "good", unchanged: "plain", rejected: "bad", ready: "good", draining: "warn", stopped: "bad", running: "plain" };
const SHOWN = 8;

/** Show the state as a word and a colour. */
export function showState(state) {
  const node = byId("state");
  setText(node, state);
  node.className = `tag ${TONES[state] ?? "warn"}`;
}

/** Show what `/status` returned. */
export function showStatus(status) {
  showState(status.state);
  showVerdict(status);
  byId("force").hidden = !forceable(status).length;
  showFacts(status);
  showDegraded(status.degraded);
  showSources(status);
  showPending(status.pending_restart);
  byId("unconfirmed").hidden = status.unconfirmed == null;
  setText(byId("unconfirmed-left"), span(status.unconfirmed ?? 0));
}

/** What forcing the reload would override, one line each: the guard and a held rollback. Nothing else can be forced. */
export function forceable({ last_reload: report, held }) {
  return [
    report?.stage === "guard" && "The guard rejected the reload: values vanish that a source held. They will be gone.",
    held && "A rollback is held: the sources still have the configuration that was rolled back. It will be in force again.",
  ].filter(Boolean);
}

/** The most important fact, for the title of the tab. */
export function headline(status) {
  if (status.state !== "ready") return status.state;
  return status.consecutive_failures ? "rejected" : `generation ${status.generation}`;
}

// The verdict

let announced = ""; // identifies the report that is shown: it is announced once

function showVerdict({ last_reload: report, consecutive_failures: failures }) {
  const key = JSON.stringify([report?.id, report?.started_at, failures]);
  if (key === announced) return;
  announced = key;
  byId("verdict").className = report ? TONES[report.outcome] : "";
  byId("verdict-text").replaceChildren(...(report ? verdict(report, failures) : ["Nothing is loaded yet."]));
  byId("verdict-when").replaceChildren(...(report ? [`${attempt(report)}, `, age(report.started_at)] : []));
}

/** A report for operators: the outcome, and every fault with its place. */
export function verdict(report, failures = 0) {
  const more = failures > 1 ? ` ${failures} reloads in a row were rejected.` : "";
  const line = element("p", {}, tag(report.outcome), " ", summary(report), more);
  return [line, faultList(report.faults), ...notes(report)];
}

const attempt = (report) =>
  `${report.dry_run ? "Dry run" : "Reload"} ${report.id} by ${report.triggers.join(", ")}, ` +
  `${(report.duration * 1000).toFixed(1)} ms`;

function summary(report) {
  const force = report.generation ? `generation ${report.generation}` : "nothing";
  if (report.outcome === "rejected") {
    const where = report.stage ? ` at ${report.stage}` : "";
    return `${report.faults.length} ${report.faults.length === 1 ? "fault" : "faults"}${where}; ${force} stays in force.`;
  }
  if (report.dry_run) return report.changed.length ? "these settings would change; nothing was applied." : "nothing would change.";
  return `${force} is in force.`;
}

function notes(report) {
  const lines = [...(report.commit_errors ?? []), report.note].filter(Boolean).map((text) => element("p", {}, text));
  return report.changed?.length ? [...lines, changes(report.changed, `verdict ${report.id}`)] : lines;
}

function faultList(faults) {
  if (!faults?.length) return "";
  return element("ul", { class: "faults" }, faults.map((fault) => element("li", {}, faultLine(fault))));
}

function faultLine({ text, origin }) {
  if (!origin || !text.startsWith(origin)) return element("code", {}, text);
  return element("code", {}, element("strong", {}, origin), text.slice(origin.length));
}

const tag = (word, tone = TONES[word] ?? "warn") => element("span", { class: `tag ${tone}` }, String(word));

function changes(paths, key) {
  const build = (path) => element("code", { class: "path" }, path || "everything");
  return element("p", { class: "changes" }, "Changed: ", firstOf(paths, SHOWN, { key: `changes ${key}`, build }));
}

// Facts

function showFacts(status) {
  const facts = [
    ["Generation", [String(status.generation), status.loaded_at ? [", ", age(status.loaded_at)] : []].flat(2)],
    ["Held", [status.held ? `rollback, as generation ${status.held.generation}: ${status.held.reason}` : ""]],
    ["Failures in a row", [status.consecutive_failures ? tag(status.consecutive_failures, "bad") : "0"]],
    ["Watching files", [status.watching.kind, status.watching.reason ? `: ${status.watching.reason}` : ""]],
    ["Leased snapshots", [leases(status.leased)]],
    ["Watchers", [status.watchers ? counts(status.watchers) : ""]],
    ["Up for", [span(status.uptime)]],
    ["Digest", [status.digest?.slice(0, 12) ?? ""]],
  ];
  const known = facts.filter(([, parts]) => parts.some(Boolean));
  byId("facts").replaceChildren(
    ...known.map(([name, parts]) => element("div", {}, element("dt", {}, name), element("dd", {}, parts))));
}

function leases(leased) {
  const entries = Object.entries(leased);
  if (!entries.length) return "none";
  return entries.map(([generation, count]) => `${count} of generation ${generation}`).join(", ");
}

const counts = (byKind) => Object.entries(byKind).map(([kind, count]) => `${count} ${kind}`).join(", ");

function showDegraded(reasons) {
  const list = byId("degraded");
  list.hidden = !reasons.length;
  list.replaceChildren(...reasons.map((reason) => element("li", {}, reason)));
}

// Sources and pending restarts

function showSources({ sources }) {
  const rows = sources.map((source) => [
    element("code", {}, source.name),
    `${source.kind}${source.required ? "" : ", optional"}`,
    element("span", { class: source.state === "fresh" ? null : "bad" }, source.state, source.error ? `: ${source.error}` : ""),
    source.protection ?? "none",
  ]);
  byId("sources-list").replaceChildren(table(["Name", "Kind", "State", "Protection"], rows));
}

function showPending(entries) {
  byId("pending").hidden = !entries.length;
  const rows = entries.map(({ path, running, wanted, origin }) => [
    element("code", {}, path), valueOf(running), valueOf(wanted), element("code", {}, origin),
  ]);
  byId("pending-list").replaceChildren(table(["Setting", "Running", "Wanted", "From"], rows));
}

function table(names, rows) {
  const head = element("tr", {}, names.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((cells) =>
    element("tr", {}, cells.map((cell, index) => element("td", { "data-name": names[index] }, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, body));
}

// History and reloads

/** Show the generations, newest first. `rollBack` is called with the one that is chosen. */
export function showHistory(answer, { rollBack }) {
  if (answer.unavailable) return unavailable("history-list", answer);
  const build = (generation) => generationItem(generation, { running: answer.running, rollBack });
  const items = firstOf([...answer.generations].reverse(), SHOWN, { key: "history", build });
  return redraw(byId("history-list"), element("div", { class: "rows" }, items));
}

function generationItem(entry, { running, rollBack }) {
  const number = entry.generation;
  const key = `rollback ${number}`;
  const button = element("button", { type: "button", class: "act", "data-key": key }, `Roll back to ${number}`);
  button.addEventListener("click", () => rollBack(entry));
  const about = [element("strong", {}, `Generation ${number}`), ` by ${entry.triggers.join(", ")}, `, age(entry.loaded_at)];
  return element(
    "div",
    { class: "row" },
    element("div", { class: "bar" }, element("span", {}, about), number === running ? tag("running") : button),
    entry.changed.length ? changes(entry.changed, `generation ${number}`) : null,
    entry.note ? element("p", {}, entry.note) : null,
  );
}

/** Show the reloads, newest first. */
export function showReloads(answer) {
  if (answer.unavailable) return unavailable("reloads-list", answer);
  const items = firstOf([...answer.reloads].reverse(), SHOWN, { key: "reloads", build: reloadItem });
  return redraw(byId("reloads-list"), element("div", { class: "rows" }, items));
}

function reloadItem(report) {
  const line = [tag(report.outcome), ` ${attempt(report)}, `, age(report.started_at)];
  const inner = [faultList(report.faults), ...notes(report)].filter(Boolean);
  if (!inner.length) return element("div", { class: "row" }, line);
  const key = `reload ${report.id}`;
  return element("details", { class: "row", "data-key": key }, element("summary", {}, line), inner);
}

function unavailable(id, answer) {
  byId(id).replaceChildren(element("p", { class: "quiet" }, `Not available: ${answer.unavailable}`));
}
