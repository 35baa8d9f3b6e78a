/** What changes on the yard, for every view. Views subscribe; where the changes come from is `source`'s matter. */

import type { Change, LiveData, LiveKind, Line, ToPage } from './messages';
import type { Source } from './source';

export type { LiveData, LiveKind };

/**
 * `live`: changes arrive. `reconnecting`: the line was lost a moment ago. `down`: it has been for a minute. `offline`:
 * this computer has no network.
 */
export type Connection = 'live' | 'reconnecting' | 'down' | 'offline';
export type LiveHandler = (data: LiveData) => void;

/** After so long without a line the page says so in a banner. */
const DOWN_AFTER_S = 60;

/** How long the first look at something waits for the stream. */
const PATIENCE_MS = 300;

class Live {
  /** When anything came from the yard for the last time, by this computer's clock. */
  lastHeardAt = $state(Date.now());
  #line = $state<Line>('opening');
  #lostAt = $state(0);
  #isLong = $state(false);
  #online = $state(navigator.onLine);
  readonly connection = $derived<Connection>(
    this.#line !== 'lost' ? 'live' : !this.#online ? 'offline' : this.#isLong ? 'down' : 'reconnecting',
  );
  readonly #handlers = new Map<LiveKind, Set<LiveHandler>>();
  #waiting: Change[] = [];
  #source: Source | null = null;
  #onRefused: () => void = () => undefined;
  #wasOpen = false;
  /** Whether somebody read something before the stream was open: what happened in between was missed. */
  #hasMissed = false;
  #whenKnown: (() => void)[] = [];

  /** Calls `handler` at each change of a kind, until the function that this returns is called. */
  on(kind: LiveKind, handler: LiveHandler): () => void {
    const handlers = this.#handlers.get(kind) ?? new Set();
    this.#handlers.set(kind, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /** Begins to listen; `onRefused` is called when the yard wants a key. */
  start(connect: (take: (message: ToPage) => void) => Source, onRefused: () => void): void {
    this.#onRefused = onRefused;
    this.#source = connect((message) => this.#take(message));
    window.addEventListener('online', () => ((this.#online = true), this.retry()));
    window.addEventListener('offline', () => (this.#online = false));
    document.addEventListener('visibilitychange', () => document.hidden || this.retry());
  }

  /**
   * Waits until the stream is open, but not long. What is read afterwards and then follows the changes is complete; where
   * the wait was too short, `reset` comes once the stream is open.
   */
  async ready(): Promise<void> {
    if (this.#line === 'opening') {
      await Promise.race([
        new Promise<void>((resolve) => this.#whenKnown.push(resolve)),
        new Promise<void>((resolve) => setTimeout(resolve, PATIENCE_MS)),
      ]);
    }
    this.#hasMissed ||= this.#line !== 'open';
  }

  /** Tries to reach the yard at once, where the line is lost or was refused. */
  retry(): void {
    this.#source?.now();
  }

  /** Notes that the yard did not answer, before there is a stream. */
  lost(): void {
    this.#changeLine('lost');
  }

  /** Notes that the yard answered. */
  heard(): void {
    this.lastHeardAt = Date.now();
  }

  #take(message: ToPage): void {
    if (message.type === 'line') this.#changeLine(message.line);
    else {
      this.heard();
      this.#queue(message.change);
    }
  }

  #queue(change: Change): void {
    if (this.#waiting.push(change) === 1) onceSoon(() => this.#tell());
  }

  #changeLine(line: Line): void {
    if (line === 'open') {
      this.heard();
      if (this.#hasMissed) this.#queue({ kind: 'reset', data: {} });
      else if (this.#wasOpen && this.#line !== 'open') this.#queue({ kind: 'again', data: {} });
      this.#hasMissed = false;
      this.#wasOpen = true;
    }
    if (line === 'refused' && this.#line !== 'refused') this.#onRefused();
    if (line === 'lost' && this.#line !== 'lost') {
      const lostAt = (this.#lostAt = Date.now());
      this.#isLong = false;
      setTimeout(
        () => (this.#isLong ||= this.#line === 'lost' && this.#lostAt === lostAt),
        DOWN_AFTER_S * 1000,
      );
    }
    this.#line = line;
    for (const resolve of this.#whenKnown.splice(0)) resolve();
  }

  /** Hands the changes of a frame over together, so that the page is drawn once. */
  #tell(): void {
    const changes = this.#waiting;
    this.#waiting = [];
    for (const { kind, data } of changes) {
      for (const handler of this.#handlers.get(kind) ?? []) handler(data);
    }
  }
}

/** Calls `act` before the next frame is drawn; a hidden tab draws none, so then a timer does. */
function onceSoon(act: () => void): void {
  const once = (): void => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    act();
  };
  const timer = setTimeout(once, 500);
  const frame = requestAnimationFrame(once);
}

export const live = new Live();
