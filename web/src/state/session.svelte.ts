/** Who the yard takes this browser for. The key itself is sent once and kept nowhere. */

import { onUnauthenticated, send, url } from '../api/client';
import { readRefusal } from '../api/errors';
import { live } from '../live/live.svelte';

export interface SessionInfo {
  owner: string;
  /** Null: the key of the settings, or none is needed. */
  key_prefix: string | null;
  scopes: string[];
  expires_at: string | null;
}

class Session {
  info = $state.raw<SessionInfo | null>(null);
  /** Whether the dialog for the key is open. */
  asking = $state(false);
  #answer: ((isSignedIn: boolean) => void) | null = null;
  #asked: Promise<boolean> | null = null;

  constructor() {
    onUnauthenticated(() => this.ask());
  }

  /** Opens the dialog for the key; resolves to whether there is one then. All who ask at a time share one dialog. */
  ask(): Promise<boolean> {
    this.asking = true;
    this.#asked ??= new Promise((resolve) => (this.#answer = resolve));
    return this.#asked;
  }

  /** Hands the key over; the browser has a cookie then. Throws what the yard refuses. */
  async signIn(key: string): Promise<void> {
    const response = await fetch(url('/session'), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ key }),
    });
    if (!response.ok) throw await readRefusal(response); // a wrong key is a 401 too, which `send` would ask for again
    this.close(true);
    live.retry();
    await this.load();
  }

  /** Closes the dialog. */
  close(isSignedIn: boolean): void {
    this.asking = false;
    this.#answer?.(isSignedIn);
    this.#answer = this.#asked = null;
  }

  /** Removes the cookie, and shows the page anew as somebody without a key sees it. */
  async signOut(): Promise<void> {
    await send(new Request(url('/session'), { method: 'DELETE' }));
    window.location.reload();
  }

  /** Reads who this browser is. */
  async load(): Promise<void> {
    const response = await send(new Request(url('/session')));
    this.info = (await response.json()) as SessionInfo;
  }
}

export const session = new Session();
