/** The events of a run over connections that may break: position, end, and reconnection. */

import { Conflict, Unreachable } from "./errors.ts";
import type { Event } from "./types.ts";

/** The server sends a comment every 15 s of silence. After three missed ones the connection counts as broken. */
const SILENCE_MS = 45_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/** The connection broke before the run ended. */
export class Broken extends Error {}

/** Opens the stream behind an event, and returns its body; null if no event is left. Throws Broken if it may be tried again. */
export type Open = (lastEventId: string, signal: AbortSignal) => Promise<ReadableStream<Uint8Array> | null>;

export interface FollowOptions {
  /** The sequence number of the last event that the caller has. */
  after?: number;
  /** For how long to try to reconnect. */
  resumeMs: number;
  signal?: AbortSignal | undefined;
}

/** Yield every event up to `final`, each once. Throws Unreachable, or what `open` throws. */
export async function* followed(open: Open, { after = 0, resumeMs, signal }: FollowOptions): AsyncGenerator<Event, void> {
  const position = new Position(after);
  const pauses = new Pauses(resumeMs);
  while (!position.isOver) {
    try {
      for await (const text of dataOf(open, position, pauses, signal)) {
        const event = position.take(JSON.parse(text) as Event);
        if (event) yield event;
        if (position.isOver) return;
      }
      if (!position.isOver) throw new Broken("the stream ended before the run did");
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      await pauses.wait(error, signal);
    }
  }
}

/** The client's place in the events of one run. */
class Position {
  isOver = false;
  private seq: number;
  private runId: string | null = null;

  constructor(after: number) {
    this.seq = after;
  }

  get lastEventId(): string {
    if (!this.seq) return "";
    return this.runId === null ? String(this.seq) : `${this.seq}:${this.runId}`;
  }

  /** The event if it is the next one; null if it was seen before. */
  take(event: Event): Event | null {
    if (this.runId === null) {
      this.runId = event.run_id;
      this.seq = event.seq - 1;
    }
    if (event.run_id !== this.runId) throw new Conflict("Another run began before the stream reached the end of this one.");
    if (event.seq <= this.seq) return null;
    if (event.seq > this.seq + 1) throw new Broken(`event ${this.seq + 1} is missing`);
    this.seq = event.seq;
    this.isOver = event.type === "final";
    return event;
  }
}

/** The pauses between attempts to reconnect: exponential, and random, so that clients do not all return at once. */
class Pauses {
  private failures = 0;
  private lostAt: number | null = null;
  private hasAnswered = false;
  private readonly resumeMs: number;

  constructor(resumeMs: number) {
    this.resumeMs = resumeMs;
  }

  /** The server has sent something. */
  reset(): void {
    this.failures = 0;
    this.lostAt = null;
    this.hasAnswered = true;
  }

  async wait(cause: Broken, signal?: AbortSignal): Promise<void> {
    this.lostAt ??= Date.now();
    if (!this.hasAnswered || Date.now() - this.lostAt > this.resumeMs) {
      throw new Unreachable(`The event stream broke: ${cause.message}. Is the server running?`, { cause });
    }
    const longest = Math.min(FIRST_PAUSE_MS * 2 ** this.failures++, LONGEST_PAUSE_MS);
    await sleep(longest * (0.5 + Math.random() / 2), signal);
  }
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Yield the data of each server-sent event of one connection. Closes it at the end. */
async function* dataOf(open: Open, position: Position, pauses: Pauses, signal?: AbortSignal): AsyncGenerator<string> {
  const silence = new AbortController();
  const either = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  let reader: ReadableStreamDefaultReader<string> | undefined;
  try {
    const body = await open(position.lastEventId, either);
    if (body === null) {
      position.isOver = true;
      return;
    }
    const decoder = new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>;
    reader = body.pipeThrough(decoder).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      pauses.reset();
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? ""; // an incomplete line
      for (const line of lines) if (line.startsWith("data:")) yield line.slice("data:".length);
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (silence.signal.aborted) throw new Broken("the server was silent");
    // Every runtime reports a broken connection as a TypeError.
    if (error instanceof TypeError) throw new Broken("the connection is lost", { cause: error });
    throw error;
  } finally {
    clearTimeout(timer);
    silence.abort(); // closes the connection of a caller that left early
    await reader?.cancel().catch(() => undefined); // it may be broken already
  }
}
