/** The shapes of the API by name, and the types of its REST operations. Everything comes from `schema.ts`. */

import type { components, paths } from "./schema.ts";

type Schemas = components["schemas"];

/** A task to store or run. */
export type NewTask = Schemas["NewTask"];
/** A stored task. */
export type Task = Schemas["Task"];
/** A task with its descendants below `children`. */
export type Tree = Schemas["TreeNode"];
/** One event of a run; the last one of a run has the type `final`. */
export type Event = Schemas["Event"];
/** The reply to the start of a run. */
export type Execution = Schemas["Execution"];
/** What was done to one task that was to be cancelled. */
export type Cancellation = Schemas["Cancellation"];
export type Status = Schemas["Status"];
/** A file as a value of JSON, as inputs and results have it. */
export type FileValue = Schemas["FileValue"];
/** A file; while it is not complete, `received` of its bytes have arrived. */
export type FileInfo = Schemas["FileInfo"];
/** A page of files. */
export type FileList = Schemas["Files"];
/** A URL with which a browser may read a file without a login. */
export type FileLink = Schemas["FileLink"];

export type Method = "get" | "post" | "put" | "patch" | "delete";
export type Path = keyof paths;

/** The methods that a path has. */
export type MethodsOf<P extends Path> = { [M in Method]: paths[P][M] extends object ? M : never }[Method];

type Operation<P extends Path, M extends Method> = NonNullable<paths[P][M]>;
type Content<T> = T extends { content: { "application/json": infer Json } } ? Json : never;
type Responses<O> = O extends { responses: infer R } ? R : never;

/** The JSON of a successful response. */
export type Success<P extends Path, M extends Method> = {
  [S in keyof Responses<Operation<P, M>>]: S extends 200 | 201 | 202 ? Content<Responses<Operation<P, M>>[S]> : never;
}[keyof Responses<Operation<P, M>>];

type Parameters<O, Place extends string> = O extends { parameters: infer A }
  ? Place extends keyof A
    ? NonNullable<A[Place]>
    : never
  : never;
type Body<O> = O extends { requestBody?: infer B } ? Content<NonNullable<B>> : never;

/** What a request of this operation may send. */
export type Request<P extends Path, M extends Method> = {
  path?: Parameters<Operation<P, M>, "path">;
  query?: Parameters<Operation<P, M>, "query">;
  body?: Body<Operation<P, M>>;
};
