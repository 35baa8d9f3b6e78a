/**
 * One file on its way to the yard by tus 1.0: sent in pieces, from where the yard says it is, until it is whole.
 * Whatever cuts the line (sleep, the yard's restart, a proxy), it asks for the offset and goes on; a reload of the page
 * finds the upload again by the file's fingerprint.
 */

import { backOffS } from './back-off';
import { ApiError, refusalOf } from './errors';
import type { Line, LineAnswer, LineRequest } from './line';
import { Speed } from './speed';

/** Where it is: `waiting` for the line to come back, `failed` until it is told to try again. */
export type UploadPhase = 'sending' | 'waiting' | 'paused' | 'whole' | 'failed' | 'cancelled';

export interface UploadView {
  phase: UploadPhase;
  /** Of the yard; null until it was begun. */
  id: string | null;
  sizeBytes: number;
  /** Those that are out; after a cut fewer than before, as only the yard's count. */
  sentBytes: number;
  bytesPerS: number | null;
  /** Why it waits or failed. */
  error: ApiError | null;
  /** When the next attempt is, in milliseconds; null: it does not wait. */
  retryAt: number | null;
}

/** Remembers by fingerprint which upload a file belongs to, over a reload of the page. */
export interface UploadMemory {
  find(fingerprint: string): string | null;
  keep(fingerprint: string, id: string): void;
  forget(fingerprint: string): void;
}

export interface UploadParts {
  blob: Blob;
  /** What the yard calls the file. */
  fileName: string;
  fingerprint: string;
  line: Line;
  memory: UploadMemory;
  /** Asks for the yard's key; resolves to whether there is one now. */
  askForKey: () => Promise<boolean>;
  /** Is called with the id of an upload before its bytes go, also of one that goes on; what it throws ends the upload. */
  onBegun: (id: string) => Promise<void>;
  onChange: (view: UploadView) => void;
}

/** The yard's upload is elsewhere than this one thought. */
const MOVED = new Set(['upload_not_found', 'upload_offset_mismatch', 'upload_locked', 'checksum_mismatch']);
const TUS = { 'Tus-Resumable': '1.0.0' };
const PIECE_BYTES = 16 * 1024 * 1024;
const SMALL_PIECE_BYTES = 512 * 1024; // below the 1 MB that proxies let through by default

export class Upload {
  readonly #parts: UploadParts;
  readonly #speed = new Speed();
  #view: UploadView;
  #pieceBytes = PIECE_BYTES;
  #stop = new AbortController();
  #wake: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();
  #failures = 0;

  constructor(parts: UploadParts) {
    this.#parts = parts;
    const id = parts.memory.find(parts.fingerprint);
    this.#view = {
      phase: 'paused',
      id,
      sizeBytes: parts.blob.size,
      sentBytes: 0,
      bytesPerS: null,
      error: null,
      retryAt: null,
    };
  }

  get view(): UploadView {
    return this.#view;
  }

  /** Starts it, or goes on after a pause or a failure; resolves when it stops, for whatever reason. */
  start(): Promise<void> {
    const { phase } = this.#view;
    if (phase === 'waiting') this.#wake();
    if (phase !== 'paused' && phase !== 'failed') return this.#running;
    this.#stop = new AbortController();
    this.#failures = 0;
    this.#change({ phase: 'sending', error: null });
    const before = this.#running;
    this.#running = before.then(() => this.#run(this.#stop.signal));
    return this.#running;
  }

  /** Stops sending; what has arrived stays. */
  pause(): void {
    if (this.#view.phase !== 'sending' && this.#view.phase !== 'waiting') return;
    this.#stop.abort();
    this.#speed.reset();
    this.#change({ phase: 'paused', bytesPerS: null, retryAt: null, error: null });
  }

  /** Ends it for good; the caller removes what has arrived. */
  cancel(): void {
    this.#stop.abort();
    this.#parts.memory.forget(this.#parts.fingerprint);
    this.#change({ phase: 'cancelled', bytesPerS: null, retryAt: null, error: null });
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#send(signal);
        this.#parts.memory.forget(this.#parts.fingerprint);
        this.#change({ phase: 'whole', bytesPerS: null, retryAt: null, error: null });
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        if (!(await this.#mend(error, signal))) return;
      }
    }
  }

  /** Sends all that is missing, from the offset that the yard names. */
  async #send(signal: AbortSignal): Promise<void> {
    const { id, offset: start } = await this.#begin(signal);
    await this.#parts.onBegun(id);
    let offset = start;
    this.#change({ phase: 'sending', sentBytes: offset, error: null, retryAt: null });
    while (offset < this.#parts.blob.size) {
      const before = offset;
      const answer = await this.#ask({
        method: 'PATCH',
        path: `/uploads/${id}`,
        headers: {
          ...TUS,
          'Content-Type': 'application/offset+octet-stream',
          'Upload-Offset': String(before),
        },
        body: this.#parts.blob.slice(before, before + this.#pieceBytes),
        signal,
        onSent: (bytes) => this.#sent(before + bytes, signal),
      });
      offset = readOffset(answer);
      this.#failures = 0;
      this.#sent(offset, signal);
    }
  }

  /** Finds the upload and its offset, or begins one. */
  async #begin(signal: AbortSignal): Promise<{ id: string; offset: number }> {
    const { id } = this.#view;
    if (id !== null) {
      try {
        const answer = await this.#ask({ method: 'GET', path: `/uploads/${id}`, headers: TUS, signal });
        return { id, offset: readOffset(answer) };
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== 'upload_not_found') throw error;
        this.#parts.memory.forget(this.#parts.fingerprint); // it expired, or was removed: from the start
        this.#change({ id: null, sentBytes: 0 });
      }
    }
    const headers = {
      ...TUS,
      'Upload-Length': String(this.#parts.blob.size),
      'Upload-Metadata': `filename ${base64(this.#parts.fileName)}`,
    };
    const answer = await this.#ask({ method: 'POST', path: '/uploads', headers, signal });
    const begun = answer.header('Location')?.split('/').at(-1);
    if (!begun) throw refusalOf(answer.status, '', answer.header);
    this.#parts.memory.keep(this.#parts.fingerprint, begun);
    this.#change({ id: begun, sentBytes: 0 });
    return { id: begun, offset: 0 };
  }

  async #ask(request: LineRequest): Promise<LineAnswer> {
    const answer = await this.#parts.line(request);
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw refusalOf(answer.status, answer.body, answer.header);
  }

  /** Does what helps against an error; returns whether to try again. */
  async #mend(error: ApiError, signal: AbortSignal): Promise<boolean> {
    this.#speed.reset();
    if (error.status === 401 && (await this.#parts.askForKey())) return !signal.aborted;
    if (error.status === 413 && error.code === 'not_the_yard' && this.#pieceBytes > SMALL_PIECE_BYTES) {
      this.#pieceBytes = SMALL_PIECE_BYTES; // a proxy's limit: in smaller pieces it goes through
      return true;
    }
    const passes = error.passing && error.status !== 507;
    const movable = MOVED.has(error.code) && this.#failures < 10; // asking for the offset again helps, if not for ever
    if (!passes && !movable) {
      this.#change({ phase: 'failed', bytesPerS: null, error, retryAt: null });
      return false;
    }
    this.#failures += 1;
    const waitMs = backOffS(this.#failures, error.retryAfterS) * 1000;
    this.#change({ phase: 'waiting', bytesPerS: null, error, retryAt: Date.now() + waitMs });
    await this.#sleep(waitMs, signal);
    return !signal.aborted;
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener('abort', this.#wake, { once: true });
    });
  }

  #sent(bytes: number, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#speed.note(bytes, Date.now());
    this.#change({ sentBytes: Math.min(bytes, this.#view.sizeBytes), bytesPerS: this.#speed.bytesPerS });
  }

  #change(changes: Partial<UploadView>): void {
    this.#view = { ...this.#view, ...changes };
    this.#parts.onChange(this.#view);
  }
}

function readOffset(answer: LineAnswer): number {
  const offset = Number(answer.header('Upload-Offset') ?? Number.NaN);
  if (!Number.isSafeInteger(offset)) throw refusalOf(502, '', answer.header);
  return offset;
}

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
