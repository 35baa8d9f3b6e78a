/** How far a dataset's validation is, in words. */

import { bytes, count, percent } from '../../format';
import { sayWait } from '../../words';
import type { Dataset } from './facts';

const PHASES: Record<string, string> = {
  reading: 'unpacking the archive',
  checking: 'checking the pictures',
  packing: 'storing the pictures',
  publishing: 'putting the pack into the store',
};

/** "checking the pictures: 1,204 of 1,980"; or what it waits for. */
export function sayProgress({ state, progress, waiting_for: wait }: Dataset): string {
  if (state !== 'validating') return '';
  if (progress === null) return sayWait(wait) || 'about to begin';
  const { phase, done, total } = progress;
  const words = PHASES[phase] ?? phase;
  if (total === 0) return words;
  return phase === 'reading'
    ? `${words}: ${bytes(done)} of ${bytes(total)}`
    : `${words}: ${count(done)} of ${count(total)}`;
}

/** From 0 to 1; null: nobody knows yet. */
export function shareOf({ progress }: Dataset): number | null {
  return progress === null || progress.total === 0 ? null : progress.done / progress.total;
}

/** The share as "61 %"; '' while nobody knows. */
export function sayShare(dataset: Dataset): string {
  const share = shareOf(dataset);
  return share === null ? '' : percent(share, 0);
}
