/** Errors of the client. All extend `RpcError`. */

/** The call failed. `code` is the error code of JSON-RPC, or the name that REST gives the error. */
export class RpcError extends Error {
  readonly code: number | string | null;
  /** The details of the error. */
  readonly data: unknown;

  constructor(message: string, options: { code?: number | string; data?: unknown; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code ?? null;
    this.data = options.data;
  }
}

/** The request is invalid. For invalid parameters, `data` lists the fields and reasons. */
export class InvalidRequest extends RpcError {}
/** What was asked for does not exist, or belongs to another user. */
export class NotFound extends RpcError {}
/** The current state of the task does not allow the call. */
export class Conflict extends RpcError {}
/** The token is missing, invalid or expired, or its role does not allow the call. */
export class AuthenticationFailed extends RpcError {}
/** There was no reply, or it did not come from an aipartnerupflow server. */
export class Unreachable extends RpcError {}
/** There was no reply in time. The call may have been executed. */
export class TimedOut extends Unreachable {}

type Kind = typeof RpcError;

const BY_CODE = new Map<number, Kind>([
  [-32001, NotFound],
  [-32004, AuthenticationFailed],
  ...[-32006, -32008, -32009].map((code): [number, Kind] => [code, Conflict]),
  ...[-32700, -32600, -32601, -32602].map((code): [number, Kind] => [code, InvalidRequest]),
  ...[-32002, -32003, -32005, -32010, -32011, -32012].map((code): [number, Kind] => [code, InvalidRequest]),
]);

const BY_STATUS = new Map<number, Kind>([
  [400, InvalidRequest],
  [401, AuthenticationFailed],
  [403, AuthenticationFailed],
  [404, NotFound],
  [409, Conflict],
  [413, InvalidRequest],
  [415, InvalidRequest],
  [422, InvalidRequest],
]);

export interface Refusal {
  code: number | string;
  message: string;
  data?: unknown;
}

/** The error for the reply of JSON-RPC, which has a number, or of REST, which has a name. */
export function errorOf({ code, message, data }: Refusal, status: number): RpcError {
  const kind = (typeof code === "number" ? BY_CODE.get(code) : BY_STATUS.get(status)) ?? RpcError;
  return new kind(message, { code, data });
}
