/** Requests whose progress can be seen while their body goes out, which `fetch` does not tell. */

import { base } from './client';
import { noAnswer } from './errors';

export interface LineRequest {
  method: 'GET' | 'POST' | 'PATCH';
  /** Of the API: `/uploads/upl_…`. */
  path: string;
  headers: Record<string, string>;
  body?: Blob;
  signal: AbortSignal;
  /** Is told how many bytes of the body are out. */
  onSent?: (bytes: number) => void;
}

export interface LineAnswer {
  status: number;
  header: (name: string) => string | null;
  body: string;
}

/** Sends a request; rejects with `ApiError` without an answer, and with the signal's reason after an abort. */
export type Line = (request: LineRequest) => Promise<LineAnswer>;

const SILENCE_MS = 60_000; // a line on which nothing moves for as long is dead, whatever the system says

/** Sends by the browser's `XMLHttpRequest`; a `Blob` goes out without being read into memory. */
export const browserLine: Line = (request) =>
  new Promise((resolve, reject) => {
    const { method, path, headers, body, signal, onSent } = request;
    signal.throwIfAborted();
    const http = new XMLHttpRequest();
    let timer: ReturnType<typeof setTimeout>;
    const hear = () => {
      clearTimeout(timer);
      timer = setTimeout(() => http.abort(), SILENCE_MS);
    };
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    };
    const stop = () => http.abort();
    http.open(method, `${base()}${path}`);
    for (const [name, value] of Object.entries(headers)) http.setRequestHeader(name, value);
    http.upload.onprogress = (event) => {
      hear();
      onSent?.(event.loaded);
    };
    http.onload = () => {
      end();
      resolve({
        status: http.status,
        header: (name) => http.getResponseHeader(name),
        body: http.responseText,
      });
    };
    http.onerror = http.onabort = () => {
      end();
      reject(signal.aborted ? (signal.reason as Error) : noAnswer());
    };
    signal.addEventListener('abort', stop);
    hear();
    http.send(body ?? null);
  });
