import { Broken, followed } from "./stream.ts";
import { Files } from "./files.ts";
import { errorOf, TimedOut, Unreachable, type Refusal } from "./errors.ts";
import type { Cancellation, Event, Execution, MethodsOf, NewTask, Path, Request, Success, Tree } from "./types.ts";

const TIMEOUT_MS = 30_000;
const RESUME_MS = 60_000;
/** Statuses of a starting server, or of a proxy in front of it: a stream reconnects. */
const TRANSIENT = new Set([429, 502, 503, 504]);

export interface ClientOptions {
  /** An API key or an access token. A function is called before each request. */
  token?: string | (() => string | Promise<string>);
  /** How long a call may take; the time for which the server may wait is added. Default: 30 s. */
  timeoutMs?: number;
  /** For how long `follow` tries to reconnect. Default: 60 s. */
  resumeMs?: number;
  /** Used in place of the global `fetch`. */
  fetch?: typeof fetch;
}

export interface CallOptions {
  /** Ends the call on this side. The server may carry it out nevertheless. */
  signal?: AbortSignal;
  /** Calls with the same key are carried out once within 24 hours. */
  idempotencyKey?: string;
  /** A key for models, or `provider:key`, for this run only. */
  llmKey?: string;
}

/** New tasks, a stored task, or a flow, with the inputs of the run. Other fields are those of `tasks.execute` and `flows.run`. */
export type Start = { use_demo?: boolean } & Inputs & (
  | { tasks: NewTask | NewTask[] }
  | { task_id: string; replace_inputs?: boolean }
  | { flow: string; version?: number }
);

/** The inputs of the run, which have two names. */
type Inputs =
  | { inputs?: Record<string, unknown>; run_inputs?: never }
  | { run_inputs?: Record<string, unknown>; inputs?: never };

export class Client {
  readonly url: string;
  /** Send, get and list files. */
  readonly files: Files;
  readonly #options: ClientOptions;

  /** `url` is the address of the server. In a page of the server itself, `""` is enough. */
  constructor(url = "http://localhost:8000", options: ClientOptions = {}) {
    this.url = url.replace(/\/+$/, "");
    this.#options = options;
    this.files = new Files(this, (path, init) => this.#transfer(path, init), options.resumeMs ?? RESUME_MS);
  }

  /** Call a method of JSON-RPC, and return its result. Throws RpcError. */
  async call<T = unknown>(method: string, params: object = {}, options: CallOptions & { path?: string } = {}): Promise<T> {
    const waits = "wait" in params && params.wait ? Number("wait_timeout_seconds" in params ? params.wait_timeout_seconds : 30) : 0;
    const init = { method: "POST", body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) };
    const response = await this.#send(options.path ?? "/tasks", init, options, waits * 1000);
    const reply = await this.#json<{ result?: T; error?: Refusal }>(response);
    if (reply.error) throw errorOf(reply.error, response.status);
    if (!("result" in reply)) throw this.#stranger(response);
    return reply.result as T;
  }

  /** Send a request to the REST API, and return its JSON. Throws RpcError. */
  async request<P extends Path, M extends MethodsOf<P>>(
    method: M,
    path: P,
    request: Request<P, M> & CallOptions = {},
  ): Promise<Success<P, M>> {
    const body = request.body === undefined ? {} : { body: JSON.stringify(request.body) };
    const waits = (request.body as { wait_timeout_seconds?: number } | undefined)?.wait_timeout_seconds ?? 30;
    const response = await this.#send(address(path, request), { method: method.toUpperCase(), ...body }, request, waits * 1000);
    const reply = await this.#json<{ error?: Refusal }>(response);
    if (!response.ok) throw reply.error ? errorOf(reply.error, response.status) : this.#stranger(response);
    return reply as Success<P, M>;
  }

  /** Start a run and return at once. */
  async start(what: Start, options: CallOptions = {}): Promise<Run> {
    if (what.inputs && what.run_inputs) throw new TypeError("inputs and run_inputs are two names of the inputs of the run. Give one of them.");
    const { inputs = what.run_inputs, run_inputs: _, ...rest } = what;
    if (!("flow" in rest)) return new Run(this, await this.call<Execution>("tasks.execute", { ...rest, run_inputs: inputs }, options));
    const { flow, ...others } = rest;
    return new Run(this, await this.call<Execution>("flows.run", { name: flow, ...others, inputs }, options));
  }

  /**
   * Yield the events of the latest run of the task's tree, up to `final`, each once. If the connection breaks or the
   * server restarts, the client reconnects behind the last event. With `tokens`, words of models are `token` events, which
   * name their agent; without, `log` events.
   */
  follow(
    taskId: string,
    { tokens = false, ...options }: { after?: number; signal?: AbortSignal; tokens?: boolean } = {},
  ): AsyncGenerator<Event, void> {
    const path = `/tasks/${encodeURIComponent(taskId)}/events${tokens ? "?tokens=true" : ""}`;
    const open = (lastEventId: string, signal: AbortSignal) => this.#open(path, lastEventId, signal);
    return followed(open, { resumeMs: this.#options.resumeMs ?? RESUME_MS, ...options });
  }

  /** The tree as it is now, with all results. */
  tree(taskId: string): Promise<Tree> {
    return this.request("get", "/api/tasks/{task_id}/tree/", { path: { task_id: taskId } });
  }

  async #open(path: string, lastEventId: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array> | null> {
    const headers = await this.#headers({ Accept: "text/event-stream" });
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    const response = await this.#fetch(path, { headers, signal });
    if (response.status === 204) return null; // the client has received every event already
    if (response.status === 200 && response.body) return response.body;
    if (TRANSIENT.has(response.status)) {
      await response.body?.cancel();
      throw new Broken(`HTTP ${response.status}`);
    }
    const reply = await this.#json<{ error?: Refusal }>(response);
    throw reply.error ? errorOf(reply.error, response.status) : this.#stranger(response);
  }

  async #send(path: string, init: RequestInit, options: CallOptions, waitMs: number): Promise<Response> {
    const headers = await this.#headers({ Accept: "application/json" });
    if (init.body) headers["Content-Type"] = "application/json";
    if (options.idempotencyKey) headers["Idempotency-Key"] = options.idempotencyKey;
    if (options.llmKey) headers["X-LLM-API-KEY"] = options.llmKey;
    const timeout = AbortSignal.timeout((this.#options.timeoutMs ?? TIMEOUT_MS) + waitMs);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    try {
      return await this.#fetch(path, { ...init, headers, signal });
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      if (timeout.aborted) throw new TimedOut(`${this.url} did not answer in time. The request may still have been executed.`);
      // A browser says no more about a server that does not allow the origin of the page.
      const hint = "Is the server running, and does its server.allowed_origins list this page?";
      throw new Unreachable(`No answer from ${this.url}. ${hint}`, { cause: error });
    }
  }

  /** Send a request whose bodies may be of any size, for as long as it takes. */
  async #transfer(path: string, init: RequestInit): Promise<Response> {
    const headers = await this.#headers({ Accept: "*/*", ...(init.headers as Record<string, string>) });
    let response: Response;
    try {
      response = await this.#fetch(path, { ...init, headers });
    } catch (error) {
      if (init.signal?.aborted) throw init.signal.reason;
      throw new Unreachable(`The connection to ${this.url} broke.`, { cause: error });
    }
    if (response.ok) return response;
    const reply = await this.#json<{ error?: Refusal }>(response);
    throw reply.error ? errorOf(reply.error, response.status) : this.#stranger(response);
  }

  #fetch(path: string, init: RequestInit): Promise<Response> {
    return (this.#options.fetch ?? fetch)(this.url + path, init);
  }

  async #headers(headers: Record<string, string>): Promise<Record<string, string>> {
    const { token } = this.#options;
    const value = typeof token === "function" ? await token() : token;
    return value ? { ...headers, Authorization: `Bearer ${value}` } : headers;
  }

  async #json<T extends object>(response: Response): Promise<T> {
    const reply: unknown = await response.json().catch(() => null);
    if (typeof reply !== "object" || reply === null) throw this.#stranger(response);
    return reply as T;
  }

  #stranger(response: Response): Unreachable {
    return new Unreachable(`${response.url} answered HTTP ${response.status}, but not as expected. Check the URL of the server.`);
  }
}

/** The path with its parameters, and the query. */
function address(path: string, { path: parts = {}, query = {} }: { path?: object; query?: object }): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String((parts as Record<string, unknown>)[name])));
  const given = Object.entries(query as Record<string, unknown>).filter(([, value]) => value !== undefined && value !== null);
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return search ? `${filled}?${search}` : filled;
}

/** A run that `Client.start` has started. */
export class Run {
  /** The server's reply, with the ids of the tasks and warnings. */
  readonly started: Execution;
  /** The root of the tree. */
  readonly taskId: string;
  readonly #client: Client;

  constructor(client: Client, started: Execution) {
    this.#client = client;
    this.started = started;
    this.taskId = started.root_task_id;
  }

  /** Yield the events up to `final`, as `Client.follow` does. */
  events(options: { after?: number; signal?: AbortSignal; tokens?: boolean } = {}): AsyncGenerator<Event, void> {
    return this.#client.follow(this.taskId, options);
  }

  /** Wait for the end, and return the tree with all results. The status of the run is in `run_status`. */
  async wait(options: { signal?: AbortSignal } = {}): Promise<Tree> {
    for await (const _ of this.events(options));
    return this.tree();
  }

  /** The tree as it is now. */
  tree(): Promise<Tree> {
    return this.#client.tree(this.taskId);
  }

  /** Cancel the run; with `force`, without time to clean up. */
  cancel({ force = false } = {}): Promise<Cancellation[]> {
    return this.#client.call("tasks.cancel", { task_ids: [this.taskId], force });
  }
}
