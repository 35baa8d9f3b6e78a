/**
 * The yard's event stream. It is read by `fetch` rather than by `EventSource`, which hides why an answer was refused and
 * when to come back, and can't be told from which event on a new one goes on.
 */

import { createParser } from 'eventsource-parser';
import { backOffS } from '../api/back-off';
import { isKind, type Change, type LiveData, type Line } from './messages';

/** The yard sends something every 5 s; after so long without anything the line is dead, whatever TCP says. */
export const SILENCE_S = 12;

/** For so long after the line was lost nobody waits longer than `SOON_S`, so that a yard that restarts is seen at once. */
const SOON_FOR_S = 600;
const SOON_S = 4;

export interface StreamEnds {
  /** Called at each event, in their order; none comes twice. */
  change: (change: Change) => void;
  line: (line: Line) => void;
}

/** Where the stream gets its answers and times from; a test has its own. */
export interface Surroundings {
  fetch: (url: string, init: RequestInit) => Promise<Response>;
  now: () => number;
}

export class EventStream {
  readonly #url: string;
  readonly #ends: StreamEnds;
  readonly #around: Surroundings;
  /** The number of the last event that was told; the next stream begins after it. */
  #last: string | null = null;
  #line: Line = 'opening';
  #lostAt: number;
  #failures = 0;
  #ended = false;
  #reading: AbortController | null = null;
  #wake: (() => void) | null = null;

  constructor(url: string, ends: StreamEnds, around: Surroundings = browser) {
    this.#url = url;
    this.#ends = ends;
    this.#around = around;
    this.#lostAt = around.now();
    void this.#run();
  }

  /** How the line is now. */
  get line(): Line {
    return this.#line;
  }

  /** Ends the wait before the next try. */
  now(): void {
    this.#wake?.();
  }

  /** Closes the stream for good. */
  close(): void {
    this.#ended = true;
    this.#reading?.abort();
    this.#wake?.();
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      const wait = await this.#readOnce();
      if (this.#ended) return;
      await new Promise<void>((resolve) => {
        const timer = wait === null ? undefined : setTimeout(resolve, wait * 1000);
        this.#wake = () => (clearTimeout(timer), resolve());
      });
      this.#wake = null;
    }
  }

  /** Reads until the stream ends, and returns the seconds until the next try; null: until `now`. */
  async #readOnce(): Promise<number | null> {
    const reading = new AbortController();
    this.#reading = reading;
    try {
      const response = await this.#around.fetch(this.#url, {
        signal: reading.signal,
        cache: 'no-store',
        headers: {
          Accept: 'text/event-stream',
          ...(this.#last !== null && { 'Last-Event-ID': this.#last }),
        },
      });
      if (response.status === 401) {
        this.#say('refused');
        return null;
      }
      if (!response.ok || response.body === null) {
        this.#say('lost');
        void response.body?.cancel();
        return this.#pause(Number(response.headers.get('Retry-After')) || null);
      }
      await this.#follow(response.body, reading);
    } catch {
      // no answer, or the line broke
    }
    this.#say('lost');
    return this.#pause(null);
  }

  async #follow(body: ReadableStream<Uint8Array>, reading: AbortController): Promise<void> {
    let silence = this.#watch(reading);
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (isKind(event)) this.#ends.change({ kind: event, data: JSON.parse(data) as LiveData });
        if (id !== undefined) this.#last = id;
        if (event === 'reset') this.#last = id ?? null;
      },
    });
    const reader = body
      .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
      .getReader();
    try {
      this.#failures = 0;
      this.#say('open');
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = this.#watch(reading);
        parser.feed(value);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #watch(reading: AbortController): ReturnType<typeof setTimeout> {
    return setTimeout(() => reading.abort(), SILENCE_S * 1000);
  }

  #pause(retryAfterS: number | null): number {
    this.#failures += 1;
    const wait = backOffS(this.#failures, retryAfterS);
    const isRecent = this.#around.now() - this.#lostAt < SOON_FOR_S * 1000;
    return retryAfterS === null && isRecent ? Math.min(wait, SOON_S) : wait;
  }

  #say(line: Line): void {
    if (this.#ended || line === this.#line) return;
    if (line === 'lost') this.#lostAt = this.#around.now();
    this.#line = line;
    this.#ends.line(line);
  }
}

const browser: Surroundings = { fetch: (url, init) => fetch(url, init), now: () => Date.now() };
