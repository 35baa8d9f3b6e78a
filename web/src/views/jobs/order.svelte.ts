/** The order of the list: it follows the jobs while its top is in view, and else stands still. */

import type { JobRow } from '../../state/jobs.svelte';

export class StandingOrder {
  /** The ids that are shown, in order. */
  ids = $state.raw<string[]>([]);
  /** Jobs that came while the list stood still. */
  waiting = $state(0);
  #key = '';

  /**
   * Takes the jobs as they are now, in the order that they should have.
   *
   * @param key what the list is filtered and sorted by: another one is another list, shown at once
   * @param still whether nothing may move now
   */
  take(rows: readonly JobRow[], key: string, still: boolean): void {
    const ids = rows.map((row) => row.id);
    if (!still || key !== this.#key) {
      this.#key = key;
      this.waiting = 0;
      if (!sameTexts(ids, this.ids)) this.ids = ids;
      return;
    }
    const there = new Set(ids);
    const kept = this.ids.filter((id) => there.has(id));
    this.waiting = ids.length - kept.length;
    if (kept.length !== this.ids.length) this.ids = kept;
  }
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}
