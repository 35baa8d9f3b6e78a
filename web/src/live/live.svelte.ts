/** What changes on the yard, for every view. Views subscribe; where the changes come from is this module's matter. */

export type Connection = 'live' | 'reconnecting' | 'down' | 'offline';
export type LiveKind =
  'job' | 'gone' | 'checkpoint' | 'dataset' | 'progress' | 'worker' | 'serving' | 'tick' | 'reset';
/** What comes with a change, as the API sends it. */
export type LiveData = Record<string, unknown>;
export type LiveHandler = (data: LiveData) => void;

class Live {
  connection = $state<Connection>('live');
  /** When anything came from the yard for the last time, by this computer's clock. */
  lastHeardAt = $state(Date.now());
  readonly #handlers = new Map<LiveKind, Set<LiveHandler>>();

  /** Calls `handler` at each change of a kind, until the function that this returns is called. */
  on(kind: LiveKind, handler: LiveHandler): () => void {
    const handlers = this.#handlers.get(kind) ?? new Set();
    this.#handlers.set(kind, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /** Hands a change to who subscribed to its kind. */
  tell(kind: LiveKind, data: LiveData): void {
    for (const handler of this.#handlers.get(kind) ?? []) handler(data);
  }

  /** Notes that the yard answered. */
  heard(): void {
    this.lastHeardAt = Date.now();
    this.connection = 'live';
  }
}

export const live = new Live();
