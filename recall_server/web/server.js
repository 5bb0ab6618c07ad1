// Talking to the server. Every failure becomes a ServerError whose message can be shown as it is.

const KEY = "recall-api-key";

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

/** fetch, with the key and with errors in words; answers that are no success are thrown. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it running, and is this machine online?");
  }
  if (!answer.ok) throw new ServerError(await reason(answer), answer.status);
  return answer;
}

export async function json(path, options) {
  const answer = await ask(path, options);
  try {
    return await answer.json();
  } catch {
    throw new ServerError("Something between this page and the server answered in its place.", answer.status);
  }
}

export function postJson(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return json(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

async function reason(answer) {
  const wait = answer.headers.get("Retry-After");
  const later = wait && (answer.status === 429 || answer.status === 503) ? ` Try again in ${wait} s.` : "";
  try {
    const problem = await answer.json();
    const faults = (problem.errors ?? []).map((each) => `${each.parameter}: ${each.detail}`).join("; ");
    const text = faults || problem.detail || problem.title;
    if (text) return `${text.charAt(0).toUpperCase()}${text.slice(1)}.${later}`.replace(/\.\.(?= |$)/, ".");
  } catch {
    // not a problem document: a proxy's page, most likely
  }
  return `The server, or something before it, answered with status ${answer.status}.${later}`;
}

/** Calls `seen` with every event of a training until it ends; connects again where a connection is lost. */
export async function follow(identifier, seen, signal) {
  let last = 0;
  for (let failures = 0; ; ) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
      const answer = await ask(`/classifier/${identifier}/events`, { headers, signal });
      if (answer.status === 204) return;
      for await (const event of events(answer.body)) {
        failures = 0;
        last = event.number;
        seen(event);
        if (["succeeded", "failed", "cancelled"].includes(event.status)) return;
      }
    } catch (error) {
      if (error.name === "AbortError" || (error.status >= 400 && error.status < 500)) throw error;
      if (++failures > 20) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** failures, 8000)));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split(/\r?\n\r?\n/);
    text = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}
