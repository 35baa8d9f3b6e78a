/** What the yard tells of its workers and its queue. */

import type { Schemas } from '../../api/client';
import { bytes, percent } from '../../format';

/** A slot; a worker of an earlier version tells nothing of its device. */
export type Slot = Schemas['SlotRead'];
export type Worker = Schemas['WorkerRead'];
export type Queued = Schemas['QueuedJobRead'];
export type Readiness = Schemas['Readiness'];

/** One part of the yard and whether it works. */
export interface Part {
  name: string;
  word: string;
  tone: 'good' | 'warn' | 'bad' | 'dim';
  /** More than the word says. */
  detail: string | null;
}

const TONES: Record<string, Part['tone']> = {
  ok: 'good',
  'none yet': 'dim',
  loading: 'dim',
  degraded: 'warn',
  read_only: 'warn',
  unknown: 'warn',
};

/** The yard's parts in words, out of `/readyz`. */
export function partsOf(ready: Readiness): Part[] {
  const part = (name: string, state: string, detail: string | null = null): Part => ({
    name,
    word: state.replaceAll('_', ' '),
    tone: TONES[state] ?? 'bad',
    detail,
  });
  return [
    part('database', ready.database),
    ...(ready.migrations === 'ok' ? [] : [part('tables', ready.migrations, ready.detail)]),
    part('storage', ready.storage, ready.storage_detail),
    part('queue', ready.queue),
    part('model', ready.model === 'none' ? 'none yet' : ready.model),
  ];
}

/** Workers that take jobs first, then those that do not answer; of equals, by host. */
export function inOrder(workers: readonly Worker[]): Worker[] {
  const rank = { live: 0, draining: 1, lost: 2, stopped: 3 } as const;
  return [...workers].sort(
    (one, other) =>
      rank[one.state] - rank[other.state] ||
      one.host.localeCompare(other.host) ||
      one.id.localeCompare(other.id),
  );
}

/** How busy and how full a slot's device is; empty where the yard does not tell, as of a CPU. */
export function usageOf({ utilisation, memory_used_bytes: used, memory_bytes: all }: Slot): string {
  const parts = [
    utilisation == null ? '' : `${percent(utilisation, 0)} busy`,
    used == null || all == null ? '' : `${bytes(used)} of ${bytes(all)}`,
  ];
  return parts.filter(Boolean).join(', ');
}

/** How many slots there are that take jobs, and how many of them are free. */
export function countSlots(workers: readonly Worker[]): { all: number; free: number } {
  const slots = workers.filter(({ state }) => state === 'live').flatMap((worker) => worker.slots);
  return { all: slots.length, free: slots.filter(({ busy }) => !busy).length };
}
