/** Client for aipartnerupflow: JSON-RPC, REST, and event streams that resume. It depends on `fetch` only. */

export { Client, Run, type CallOptions, type ClientOptions, type Start } from "./client.ts";
export { Files, type PutOptions } from "./files.ts";
export { AuthenticationFailed, Conflict, InvalidRequest, NotFound, RpcError, TimedOut, Unreachable } from "./errors.ts";
export type * from "./types.ts";
export type { components, operations, paths } from "./schema.ts";
