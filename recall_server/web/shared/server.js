// Requests to the server. Every failure becomes a ServerError whose message can be shown to the user.

const KEY = "recall-api-key";
const GONE = "The server does not answer. Is it running, and is this machine online?";

/** Emits "lost" if the server did not answer, and "locked" if it requires another key. */
export const connection = new EventTarget();

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** The address of a path on the server, which may lie below a prefix that a proxy removes; links may name it. */
function address(path) {
  const base = new URL(".", document.baseURI);
  return path.startsWith(base.pathname) ? path : new URL(path.slice(1), base).href;
}

/** fetch with the API key; throws a ServerError unless the answer is a success. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  let answer;
  try {
    if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
    answer = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const unusable = key.get() && !headers.has("Authorization"); // headers cannot contain these characters
    if (unusable) throw new ServerError("This is not a valid API key: it has characters that no key has.");
    connection.dispatchEvent(new Event("lost"));
    throw new ServerError(GONE);
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

export async function json(path, options) {
  const answer = await ask(path, options);
  return read(answer, () => answer.json());
}

export function postJson(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return json(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

/** The body of an answer; throws a ServerError if it is cut off or does not come from the server. */
export async function read(answer, reader) {
  try {
    return await reader();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!(error instanceof SyntaxError)) {
      connection.dispatchEvent(new Event("lost"));
      throw new ServerError("The connection was lost before the answer was complete.");
    }
    throw new ServerError("The answer is not from the server, but from a proxy in between.", answer.status);
  }
}

/** The answer of /health/ready, whether the server is ready or not. */
export async function readiness() {
  const answer = await fetch(address("/health/ready"), { signal: AbortSignal.timeout(10_000) }).catch(() => null);
  if (!answer) throw new ServerError(GONE);
  if (!answer.ok && answer.status !== 503) throw await failure(answer);
  const state = await answer.json().catch(() => null);
  if (!state?.status || !Array.isArray(state.reasons)) throw new ServerError(unexplained(answer), answer.status);
  return state;
}

async function failure(answer) {
  if (answer.status === 401) connection.dispatchEvent(new Event("locked"));
  return new ServerError(await reason(answer), answer.status);
}

async function reason(answer) {
  try {
    const problem = await answer.json();
    const faults = (problem.errors ?? []).map((each) => `${each.parameter}: ${each.detail}`).join("; ");
    const text = faults || problem.detail || problem.title;
    if (text) return sentence(text) + later(answer);
  } catch {
    // not a problem document, probably the page of a proxy
  }
  return unexplained(answer);
}

function unexplained(answer) {
  return `The server, or a proxy before it, answered with status ${answer.status}.${later(answer)}`;
}

function later(answer) {
  const wait = answer.headers.get("Retry-After");
  return wait && (answer.status === 429 || answer.status === 503) ? ` Try again in ${wait} s.` : "";
}

/** A clause as a sentence. */
export function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
