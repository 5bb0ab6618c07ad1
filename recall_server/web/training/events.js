// Follows a training by its server-sent events, and reconnects when the connection breaks.

import { ask } from "../shared/server.js";

const MOST_FAILURES = 60; // consecutive failures, which take eight minutes; most servers restart sooner
const ENDS = ["succeeded", "failed", "cancelled"];

/**
 * Calls `seen` with every event of a training until it ends. If the connection is lost, calls `lost` and continues
 * after the last event seen.
 */
export async function follow(identifier, seen, lost) {
  let last = 0;
  for (let failures = 0; ; failures += 1) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
      const answer = await ask(`/classifier/${encodeURIComponent(identifier)}/events`, { headers });
      if (answer.status === 204) return;
      for await (const event of events(answer.body)) {
        failures = -1;
        last = event.number;
        seen(event);
        if (ENDS.includes(event.status)) return;
      }
    } catch (error) {
      if (error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
      if (failures >= MOST_FAILURES) throw error;
      lost();
    }
    await new Promise((resolve) => { setTimeout(resolve, Math.min(500 * 2 ** failures, 8000)); });
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
