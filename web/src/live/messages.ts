/** What the page and the worker that holds the yard's event stream tell each other. */

/** The events of the yard's stream, and `again`: the line is back, so what has no number must be read anew. */
export type LiveKind =
  'job' | 'gone' | 'checkpoint' | 'dataset' | 'progress' | 'worker' | 'serving' | 'tick' | 'reset' | 'again';

/** What comes with a change, as the API sends it. */
export type LiveData = Record<string, unknown>;

/** A change on the yard. */
export interface Change {
  kind: LiveKind;
  data: LiveData;
}

/** How the stream is. `opening`: not known yet. `refused`: the yard wants a key; the stream waits for `now`. */
export type Line = 'opening' | 'open' | 'lost' | 'refused';

export type ToPage = { type: 'change'; change: Change } | { type: 'line'; line: Line };

export type ToWorker =
  /** A page that listens; the first one says where the stream is. */
  | { type: 'hello'; url: string }
  /** It still listens: a page that ended without a word is forgotten. */
  | { type: 'here' }
  | { type: 'bye' }
  /** Try again now: somebody signed in, the computer is online again, or somebody looks at the page again. */
  | { type: 'now' };

const KINDS: ReadonlySet<string> = new Set<LiveKind>([
  'job',
  'gone',
  'checkpoint',
  'dataset',
  'progress',
  'worker',
  'serving',
  'tick',
  'reset',
]);

/** Whether the page knows a kind of event; a newer yard may send others. */
export function isKind(kind: string | undefined): kind is LiveKind {
  return kind !== undefined && KINDS.has(kind);
}
