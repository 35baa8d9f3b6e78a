/**
 * The API, typed by its OpenAPI document: `const { data } = await api.GET('/jobs/{job_id}', { params })`.
 * A refusal throws `ApiError`. Where the yard wants a key, reads wait for the dialog and are repeated; writes ask again.
 */

import createClient, { type FetchResponse, type MaybeOptionalInit } from 'openapi-fetch';
import type { HttpMethod, MediaType, PathsWithMethod, RequiredKeysOf } from 'openapi-typescript-helpers';
import { ApiError, noAnswer, readRefusal } from './errors';
import type { components, paths } from './types';

export { ApiError };
export type Schemas = components['schemas'];

/** Where the yard's routes begin: beside the page, whatever prefix a proxy put before both. */
export function base(): string {
  return new URL('.', document.baseURI).href.replace(/\/$/, '');
}

/** The address of a path that the API names, such as `/datasets/ds_digits/sprite`, for `<img>` and downloads. */
export function url(path: string, query: Record<string, string | number | null | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') search.set(name, String(value));
  }
  return `${base()}${path}${search.size > 0 ? `?${search}` : ''}`;
}

/** Asks the user for the key; resolves to whether there is one now. */
export type AskForKey = () => Promise<boolean>;

let askForKey: AskForKey | null = null;

/** Says what to do when the yard wants a key. */
export function onUnauthenticated(ask: AskForKey): void {
  askForKey = ask;
}

/** Asks for the key, for requests that `fetch` does not make. */
export async function hasKeyNow(): Promise<boolean> {
  return askForKey === null ? false : askForKey();
}

let skewMs = 0;

/** The yard's time now, in milliseconds: by the `Date` of its last answer, so that a wrong clock here does no harm. */
export function yardNow(): number {
  return Date.now() + skewMs;
}

/** Makes a request and returns its answer; it throws `ApiError` where the answer refuses. */
export async function send(request: Request): Promise<Response> {
  const isRead = request.method === 'GET' || request.method === 'HEAD';
  const again = isRead ? request.clone() : null;
  const response = await answer(request);
  if (response.status === 401 && askForKey !== null) {
    if (again !== null && (await askForKey())) return accepted(await answer(again));
    if (again === null) void askForKey();
  }
  return accepted(response);
}

/** Sends an image or a form, which the OpenAPI document does not type, and returns the answer. */
export function post(path: string, body: Blob | FormData, options: PostOptions = {}): Promise<Response> {
  const { query, headers, signal } = options;
  return send(new Request(url(path, query), { method: 'POST', body, headers, signal: signal ?? null }));
}

export interface PostOptions {
  query?: Record<string, string | number | null | undefined>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** A new value for `Idempotency-Key`; `randomUUID` is not there on plain http. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function answer(request: Request): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw noAnswer();
  }
  const date = Date.parse(response.headers.get('Date') ?? '');
  if (!Number.isNaN(date)) skewMs = near(date - Date.now());
  return response;
}

/** `Date` has whole seconds, and the answer was under way: less than two seconds' difference is none. */
function near(skew: number): number {
  return Math.abs(skew) < 2000 ? 0 : skew;
}

async function accepted(response: Response): Promise<Response> {
  if (response.ok || response.status === 304) return response;
  throw await readRefusal(response);
}

type Answered<T extends Record<string | number, unknown>, Init> =
  FetchResponse<T, Init, MediaType> extends infer Either
    ? Either extends { data: infer Data; error?: never }
      ? { data: Data; response: Response }
      : never
    : never;

type InitParam<Init> =
  RequiredKeysOf<Init> extends never
    ? [(Init & { [key: string]: unknown })?]
    : [Init & { [key: string]: unknown }];

type Method<Name extends HttpMethod> = <
  Path extends PathsWithMethod<paths, Name>,
  Init extends MaybeOptionalInit<paths[Path], Name>,
>(
  path: Path,
  ...init: InitParam<Init>
) => Promise<Answered<paths[Path][Name] & Record<string | number, unknown>, Init>>;

export interface Api {
  GET: Method<'get'>;
  POST: Method<'post'>;
  PUT: Method<'put'>;
  PATCH: Method<'patch'>;
  DELETE: Method<'delete'>;
}

/** Makes a client of a yard; the page has one, `api`. */
export function createApi(baseUrl: string): Api {
  // What refuses has thrown in `send`, so `error` is never set: the types of `Api` leave it out.
  return createClient<paths>({ baseUrl, fetch: send }) as unknown as Api;
}

/** The client of the yard that this page comes from. */
export const api: Api = createApi(typeof document === 'undefined' ? '' : base());
