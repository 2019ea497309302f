import { Conflict, Unreachable } from "./errors.ts";
import type { Client } from "./client.ts";
import type { FileInfo, FileLink, FileList, FileValue } from "./types.ts";

const RETRY_MS = 500;

/** Sends a request whose bodies may be of any size. Throws RpcError unless the status is one of success. */
type Transfer = (path: string, init: RequestInit & { duplex?: "half" }) => Promise<Response>;

export interface PutOptions {
  /** Default: the name of a `File`. */
  name?: string;
  /** Default: that of the blob or, without one, the usual one of the name. */
  mediaType?: string;
  signal?: AbortSignal;
}

/** Files: their bytes stream both ways. Node opens a local file without reading it: `await openAsBlob(path)` of `node:fs`. */
export class Files {
  readonly #client: Client;
  readonly #transfer: Transfer;
  readonly #resumeMs: number;

  constructor(client: Client, transfer: Transfer, resumeMs: number) {
    this.#client = client;
    this.#transfer = transfer;
    this.#resumeMs = resumeMs;
  }

  /**
   * Send a file, and return it as a value for inputs. A blob continues where it was after a broken connection; a stream, whose
   * size is not known, is sent in one request. Throws RpcError.
   */
  async put(source: Blob | ReadableStream<Uint8Array>, options: PutOptions = {}): Promise<FileValue> {
    const name = options.name ?? ("name" in source ? String(source.name) : undefined);
    if (name === undefined) throw new TypeError("The file needs a name: put(blob, { name: \"report.pdf\" }).");
    const type = options.mediaType ?? ("type" in source && source.type ? source.type.split(";")[0]?.trim().toLowerCase() : undefined);
    const media = type ? { media_type: type } : {};
    if (source instanceof Blob) {
      const file = await this.#client.call<FileInfo>("files.create", { name, bytes: source.size, ...media }, options);
      return this.#send(file, source, options.signal);
    }
    const query = new URLSearchParams({ name, ...media });
    const response = await this.#transfer(`/files?${query}`, { method: "POST", body: source, duplex: "half", ...signalOf(options) });
    return (await response.json()) as FileValue;
  }

  /** Get the bytes of a file, or those from `start` to before `end`: the `body` of the response is a stream. Throws RpcError. */
  get(file: string | FileValue, options: { start?: number; end?: number; signal?: AbortSignal } = {}): Promise<Response> {
    const { start = 0, end } = options;
    const headers: Record<string, string> = start || end !== undefined ? { Range: `bytes=${start}-${end === undefined ? "" : end - 1}` } : {};
    return this.#transfer(`/files/${encodeURIComponent(idOf(file))}`, { headers, ...signalOf(options) });
  }

  /** List the files, or those of a run, the newest first; the next page with `next_cursor`. */
  list(query: { limit?: number; cursor?: string; run_id?: string } = {}): Promise<FileList> {
    return this.#client.call("files.list", query);
  }

  /** Return a URL with which a browser, or another program, may read the file for some minutes without a login. */
  link(file: string | FileValue, query: { minutes?: number } = {}): Promise<FileLink> {
    return this.#client.call("files.link", { file_id: idOf(file), ...query });
  }

  async #send(file: FileInfo, source: Blob, signal: AbortSignal | undefined): Promise<FileValue> {
    let received = 0;
    let lastMs = Date.now();
    for (let isBroken = false; ; ) {
      try {
        const now = isBroken ? await this.#known(file, signal) : await this.#put(file, source, received, signal);
        if (now.file) return now.file;
        isBroken = false;
        if ((now.received ?? 0) > received) lastMs = Date.now();
        received = now.received ?? 0;
      } catch (error) {
        // Conflict: the server has not noticed yet that the connection before has ended.
        if (!(error instanceof Unreachable || error instanceof Conflict) || Date.now() - lastMs > this.#resumeMs) throw error;
        isBroken = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #put(file: FileInfo, source: Blob, received: number, signal: AbortSignal | undefined): Promise<FileInfo> {
    const headers = { "Upload-Offset": String(received) };
    const response = await this.#transfer(file.url, { method: "PUT", body: source.slice(received), headers, ...signalOf({ signal }) });
    return (await response.json()) as FileInfo;
  }

  #known(file: FileInfo, signal: AbortSignal | undefined): Promise<FileInfo> {
    return this.#client.call("files.get", { file_id: file.id }, signalOf({ signal }));
  }
}

function idOf(file: string | FileValue): string {
  return typeof file === "string" ? file : file.$file;
}

function signalOf({ signal }: { signal?: AbortSignal | undefined }): { signal?: AbortSignal } {
  return signal ? { signal } : {};
}
