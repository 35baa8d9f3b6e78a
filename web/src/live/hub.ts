/** Feeds all pages of a browser from one stream. */

import type { ToPage, ToWorker } from './messages';
import { EventStream } from './stream';

/** A page says every half minute that it is here; hidden ones are slowed to once a minute. */
export const FORGOTTEN_AFTER_S = 200;

export interface Port {
  postMessage: (message: ToPage) => void;
}

/** Makes the stream; a test makes another. */
export type OpenStream = (
  url: string,
  ends: ConstructorParameters<typeof EventStream>[1],
) => Pick<EventStream, 'line' | 'now' | 'close'>;

export class Hub {
  readonly #open: OpenStream;
  /** Who listens, and when they said so last. */
  readonly #pages = new Map<Port, number>();
  #stream: ReturnType<OpenStream> | null = null;

  constructor(open: OpenStream = (url, ends) => new EventStream(url, ends)) {
    this.#open = open;
  }

  /** Takes a message of a page. */
  take(page: Port, message: ToWorker, now = Date.now()): void {
    switch (message.type) {
      case 'hello':
        this.#pages.set(page, now);
        this.#stream ??= this.#open(message.url, {
          change: (change) => this.#tell({ type: 'change', change }),
          line: (line) => this.#tell({ type: 'line', line }),
        });
        page.postMessage({ type: 'line', line: this.#stream.line });
        break;
      case 'here':
        this.#pages.set(page, now);
        for (const [other, at] of this.#pages) {
          if (now - at > FORGOTTEN_AFTER_S * 1000) this.#pages.delete(other);
        }
        break;
      case 'bye':
        this.#pages.delete(page);
        break;
      case 'now':
        this.#stream?.now();
        break;
    }
    if (this.#pages.size === 0) {
      this.#stream?.close();
      this.#stream = null;
    }
  }

  #tell(message: ToPage): void {
    for (const page of this.#pages.keys()) page.postMessage(message);
  }
}
