// The page: one connection, one poll at a time, and the actions.

import { Refused, events, get, getExact, getOptional, hasToken, post, setToken } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { forceable, headline, showHistory, showReloads, showState, showStatus, verdict } from "./panels.js";
import { clock, now, span } from "./time.js";
import { Tree } from "./tree.js";
import { leavesOf, valueOf, valueText } from "./values.js";

const POLL_EVERY = 2_000; // milliseconds: the stream has no events for leases and stale sources
const POLL_WHEN_HIDDEN = 15_000;
const FIRST_RETRY = 500;
const LAST_RETRY = 15_000;

const tree = new Tree(byId("tree"), { count: byId("count"), filter: byId("filter") });
let shownKey = ""; // identifies the state that the panels below the status show
let newestReload = 0; // the id of the newest reload that they show
let polledAt = null; // the time of the last successful poll
let latestStatus = {}; // the status at that time
let openDialog = null; // identifies the dialog that is open

// Connection

async function live() {
  let delay = FIRST_RETRY;
  for (;;) {
    try {
      await follow(() => { delay = FIRST_RETRY; });
    } catch (error) {
      if (error.status === 401) {
        await askForToken();
        delay = FIRST_RETRY;
      } else {
        await retry(error, delay);
        delay = Math.min(delay * 2, LAST_RETRY);
      }
    }
  }
}

/** Poll at every event of the stream, and at intervals. Throws when the connection is lost. */
async function follow(connected) {
  const life = new AbortController();
  try {
    const stream = await events(life.signal);
    let end = null;
    wakeOn(stream).catch(() => new Error("The connection was lost.")).then((reason) => {
      end = reason;
      if (!life.signal.aborted) wake();
    });
    shownKey = "";
    while (!end) {
      await poll();
      connected();
      await pause(document.hidden ? POLL_WHEN_HIDDEN : POLL_EVERY);
    }
    throw end;
  } finally {
    life.abort();
  }
}

/** End the pause at every event. Returns why the stream ended. */
async function wakeOn(stream) {
  let last = "";
  for await (const name of stream) {
    last = name;
    wake();
  }
  return new Error(last === "shutdown" ? "The server is shutting down." : "The server closed the connection.");
}

let woken = false;
let endPause = () => {};

/** End the current pause, or the next one before it begins: an event during a poll is not missed. */
function wake() {
  woken = true;
  endPause();
}

/** Wait for some milliseconds, or until `wake` is called. Returns whether it was. */
async function pause(milliseconds) {
  if (!woken) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      endPause = () => { clearTimeout(timer); resolve(); };
    });
  }
  const early = woken;
  woken = false;
  return early;
}

async function poll() {
  const status = await get("status");
  const { generation, digest, last_reload: report } = status;
  const key = JSON.stringify([generation, digest, report?.id, report?.started_at]);
  if (key !== shownKey) await loadPanels();
  shownKey = key;
  polledAt = now();
  latestStatus = status;
  showStatus(status);
  reached(status);
}

/** Load what a reload may have changed. After a rejected one only the reports: the rest did not change, and is large. */
async function loadPanels() {
  const reloads = await getOptional("reloads");
  const fresh = reloads.reloads?.filter(({ id }) => id > newestReload) ?? [];
  if (!shownKey || reloads.unavailable || fresh.some(({ outcome }) => outcome !== "rejected")) {
    const [values, history] = await Promise.all([getOptional("explain", getExact), getOptional("history")]);
    tree.show(values, { compare: polledAt !== null });
    showHistory(history, { rollBack });
  }
  newestReload = reloads.reloads?.at(-1)?.id ?? 0;
  showReloads(reloads);
}

function reached(status) {
  document.title = `${headline(status)} - hotconf ${place}`;
  byId("connection").hidden = true;
  byId("token-form").hidden = true;
  byId("content").hidden = false;
  setReachable(true);
}

function unreached(state) {
  document.title = `${state} - hotconf ${place}`;
  showState(state);
  setReachable(false);
}

function setReachable(reachable) {
  document.body.classList.toggle("stale", !reachable);
  byId("forget").hidden = !hasToken();
  for (const button of document.querySelectorAll("#reload, #dry-run, .act")) button.disabled = !reachable;
}

async function retry(error, delay) {
  unreached("unreachable");
  setText(byId("lost"), error instanceof Refused ? `The server refused the request: ${error.message}` : error.message);
  byId("connection").hidden = false;
  woken = false;
  const until = Date.now() + delay * (1 + Math.random() / 4); // at another time than other pages of the same server
  for (let left = until - Date.now(); left > 0; left = until - Date.now()) {
    setText(byId("retry"), `${lastSeen()}Next try in ${Math.ceil(left / 1000)} s.`);
    if (await pause(Math.min(left, 1000))) return;
  }
}

function lastSeen() {
  if (!polledAt) return "";
  return `Below is the state of ${span((now() - polledAt) / 1000)} ago, at ${clock(new Date(polledAt))}. `;
}

/** Show the form for the token, until one is entered. */
function askForToken() {
  const form = byId("token-form");
  setText(byId("token-label"), hasToken() ? "The token was refused. Token:" : "This server requires a token:");
  setToken(null);
  unreached("token needed");
  byId("connection").hidden = true;
  form.hidden = false;
  byId("token").focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      setToken(byId("token").value.trim());
      byId("token").value = "";
      resolve();
    };
  });
}

// Actions

async function act(name, ask) {
  answer([element("p", {}, `${name} …`)]);
  try {
    const report = await ask();
    answer([element("h2", {}, name), ...verdict(report)]);
  } catch (error) {
    answer([element("h2", {}, name), ...refusal(error)], "bad");
  }
  wake();
}

function refusal(error) {
  if (!(error instanceof Refused)) return [element("p", {}, `${error.message} It is not known whether the action was carried out.`)];
  const { faults = [], report } = error.document;
  if (report) return verdict({ ...report, faults });
  return [element("p", {}, error.message)];
}

function answer(children, tone = "") {
  byId("answer").className = `notice ${tone}`;
  byId("answer").hidden = false; // first: screen readers ignore what changes while it is hidden
  byId("answer-text").replaceChildren(...children.filter(Boolean));
}

/** Show a dialog before an action; its consequences appear when they are known. */
async function confirmed({ title, yes, consequences, act: carryOut }) {
  const dialog = (openDialog = Symbol(title));
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), "…");
  setText(byId("confirm-yes"), yes);
  byId("confirm").showModal();
  byId("confirm-yes").onclick = () => {
    byId("confirm").close();
    carryOut();
  };
  const text = await consequences();
  if (openDialog === dialog) byId("confirm-text").replaceChildren(...text.filter(Boolean));
}

function rollBack({ generation: number }) {
  const name = `Roll back to generation ${number}`;
  const roll = () => act(name, () => post("rollback", { generation: number }));
  return confirmed({ title: `${name}?`, yes: "Roll back", consequences: () => consequences(number), act: roll });
}

function force() {
  const forced = () => act("Forced reload", () => post("reload?force=1"));
  return confirmed({ title: "Force the reload?", yes: "Force the reload", consequences: losses, act: forced });
}

async function losses() {
  const warnings = forceable(latestStatus).map((text) => element("p", {}, text));
  try {
    return [...warnings, ...verdict(await post("reload?dry_run=1&force=1"))];
  } catch (error) {
    return [...warnings, ...refusal(error)];
  }
}

async function consequences(number) {
  const lasting = element("p", {}, "It becomes a new generation, and stays in force until the content of the sources changes.");
  const generation = await getOptional(`history/${number}`, getExact).catch(() => ({}));
  if (generation.config === undefined) return [lasting];
  const lines = differences(tree.leaves, leavesOf(generation.config));
  const list = element("ul", { class: "faults" }, lines);
  return [lines.length ? list : element("p", {}, "No value that can be shown differs from the running configuration."), lasting];
}

function differences(running, wanted) {
  const paths = new Set([...running.keys(), ...wanted.keys()]);
  const found = [];
  for (const path of paths) {
    const [old, next] = [running.get(path)?.value, wanted.get(path)];
    if (valueText(old) !== valueText(next)) {
      found.push(element("li", {}, element("code", {}, path), ": ", valueOf(old), " becomes ", valueOf(next)));
    }
  }
  return found;
}

// Wiring

const place = location.host + location.pathname.replace(/\/dashboard$/, "");
setText(byId("place"), place);
byId("reload").addEventListener("click", () => act("Reload", () => post("reload")));
byId("dry-run").addEventListener("click", () => act("Dry run", () => post("reload?dry_run=1")));
byId("force").addEventListener("click", () => force());
byId("keep").addEventListener("click", () => act("Keep the patch", () => post("confirm")));
byId("dismiss").addEventListener("click", () => { byId("answer").hidden = true; });
byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("forget").addEventListener("click", () => { setToken(null); location.reload(); });
byId("try-now").addEventListener("click", () => wake());
document.addEventListener("visibilitychange", () => wake());
live();
