/** Asking again and again, but only while somebody looks. */

import { untrack } from 'svelte';

/**
 * Runs `ask` at once and then every `everyMs`, one at a time; not while the tab is hidden, and at once when it is shown
 * again. Returns what ends it.
 */
export function whileVisible(ask: () => Promise<void>, everyMs: number): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  let asking = false;

  async function run(): Promise<void> {
    if (asking || ended || document.hidden) return;
    clearTimeout(timer);
    asking = true;
    await ask();
    asking = false;
    if (!ended) timer = setTimeout(() => void run(), everyMs);
  }
  function changed(): void {
    if (!document.hidden) void run();
  }

  document.addEventListener('visibilitychange', changed);
  untrack(() => void run()); // what is read while asking is no reason to begin anew
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', changed);
  };
}
