// Requests to the endpoints beside the page. All URLs are relative to it.

import { setClock } from "./time.js";

const TIMEOUT = 10_000;
const STORED = `hotconf token ${location.pathname}`;

let token = null;
try {
  token = sessionStorage.getItem(STORED);
} catch {
  // A browser may forbid storage. Then the token lasts as long as the page.
}

export const hasToken = () => Boolean(token);

/** Send this token from now on, as long as the tab lives; null forgets it. */
export function setToken(text) {
  token = text;
  try {
    if (text) sessionStorage.setItem(STORED, text);
    else sessionStorage.removeItem(STORED);
  } catch {
    // As above.
  }
}

/** A refusal. `document` is the server's problem document, `message` its detail. */
export class Refused extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `the server answered ${status}`);
    this.status = status;
    this.document = document;
  }
}

/** The server did not respond. */
export class Unreachable extends Error {
  constructor() { super("The server cannot be reached."); }
}

/** A number that JavaScript would write in another way: a large integer, `1.0`. */
export class Exact {
  constructor(text) { this.text = text; }
  toJSON() { return this.text; }
}

export const get = async (path) => (await ask(path)).json();

/** GET, with numbers as the server wrote them. */
export async function getExact(path) {
  return JSON.parse(await (await ask(path)).text(), exact);
}

/** GET from an endpoint that the server may not offer. */
export async function getOptional(path, getter = get) {
  try {
    return await getter(path);
  } catch (error) {
    if (error instanceof Refused && [404, 405, 501].includes(error.status)) return { unavailable: error.message };
    throw error;
  }
}

export async function post(path, body) {
  const options = { method: "POST" };
  if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), type: "application/json" });
  return (await ask(path, options)).json();
}

/** Open the event stream; not as an EventSource, which cannot send a token. Returns an async iterator of event names. */
export async function events(signal) {
  const response = await ask("events?reports=1", { signal });
  return namesOf(response.body.pipeThrough(new TextDecoderStream()).getReader());
}

async function ask(path, { method = "GET", body, type, signal = AbortSignal.timeout(TIMEOUT) } = {}) {
  const headers = new Headers();
  if (token) headers.set("Authorization", `Bearer ${token}`);
  if (type) headers.set("Content-Type", type);
  const response = await fetch(path, { method, body, headers, signal, cache: "no-store" }).catch(() => {
    throw new Unreachable();
  });
  setClock(response);
  if (response.ok) return response;
  throw new Refused(response.status, await response.json().catch(() => ({})));
}

async function* namesOf(reader) {
  let text = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const lines = (text + piece.value).split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line.startsWith("event: ")) yield line.slice("event: ".length);
    }
  }
}

function exact(_key, value, context) {
  const changed = typeof value === "number" && context?.source !== undefined && context.source !== String(value);
  return changed ? new Exact(context.source) : value;
}
