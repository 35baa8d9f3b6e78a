/** What a failed request says of itself, whatever was thrown. `src/api/` throws an `ApiError`, which has this shape. */
export interface Refusal {
  /** The HTTP status; 0: no answer came. */
  status: number;
  code: string | null;
  message: string;
  param: string | null;
  requestId: string | null;
  retryAfterS: number | null;
}

/** Reads what was thrown; an error without these fields says its own message. */
export function refusalOf(error: unknown): Refusal {
  const given: Partial<Refusal> = typeof error === 'object' && error !== null ? error : {};
  const lost = error instanceof TypeError; // what fetch throws when no answer came
  return {
    status: given.status ?? 0,
    code: given.code ?? null,
    message: lost
      ? 'The yard does not answer. Training goes on without this page.'
      : (given.message ?? (error === undefined ? 'Something went wrong.' : String(error))),
    param: given.param ?? null,
    requestId: given.requestId ?? null,
    retryAfterS: given.retryAfterS ?? null,
  };
}
