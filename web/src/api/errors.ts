/** What the API refuses, as an error with the API's own words. */

export interface Refusal {
  /** The HTTP status; 0: there was no answer. */
  status: number;
  /** For programs; `no_answer` and `not_the_yard` are the page's own. */
  code: string;
  /** For people: what is wrong and what to do. */
  message: string;
  /** The field or parameter that is refused. */
  param: string | null;
  /** To find the request in the yard's log. */
  requestId: string | null;
  /** Seconds after which a repetition makes sense, where the yard says so. */
  retryAfterS: number | null;
}

/** A refusal of the API, or that it did not answer. */
export class ApiError extends Error implements Refusal {
  readonly status: number;
  readonly code: string;
  readonly param: string | null;
  readonly requestId: string | null;
  readonly retryAfterS: number | null;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.name = 'ApiError';
    this.status = refusal.status;
    this.code = refusal.code;
    this.param = refusal.param;
    this.requestId = refusal.requestId;
    this.retryAfterS = refusal.retryAfterS;
  }

  /** Whether the same request may well succeed a little later. */
  get passing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** Makes the error of a request that got no answer: the yard is down, or the line to it. */
export function noAnswer(): ApiError {
  return new ApiError({
    status: 0,
    code: 'no_answer',
    message: 'The yard does not answer. Training goes on without this page.',
    param: null,
    requestId: null,
    retryAfterS: null,
  });
}

/** Reads the error out of an answer that refuses; what stands between page and yard may answer in a form of its own. */
export async function readRefusal(response: Response): Promise<ApiError> {
  return refusalOf(response.status, await response.text(), (name) => response.headers.get(name));
}

/** Reads the error out of the parts of an answer, for requests that were not made by `fetch`. */
export function refusalOf(status: number, body: string, header: (name: string) => string | null): ApiError {
  const requestId = header('X-Request-ID');
  const retryAfterS = readRetryAfter(header('Retry-After'));
  const told = parseBody(body);
  if (told === null) {
    const message = `The answer was ${status}, and not in the yard's form: something between this page and the yard refused.`;
    return new ApiError({ status, code: 'not_the_yard', message, param: null, requestId, retryAfterS });
  }
  return new ApiError({ status, retryAfterS, ...told, requestId: told.requestId ?? requestId });
}

/** Reads `Retry-After`, which is a number of seconds or a time. */
export function readRetryAfter(value: string | null, now: number = Date.now()): number | null {
  if (value === null || value.trim() === '') return null;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}

type Told = Pick<Refusal, 'code' | 'message' | 'param' | 'requestId'>;

function parseBody(body: string): Told | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return null;
  }
  if (!isRecord(parsed) || !isRecord(parsed.error)) return null;
  const { code, message, param, request_id: requestId } = parsed.error;
  if (typeof code !== 'string' || typeof message !== 'string') return null;
  return { code, message, param: text(param), requestId: text(requestId) };
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
