/** What the yard tells of its workers and its queue. */

import type { Schemas } from '../../api/client';
import { bytes, counted, percent } from '../../format';

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

/** A lost worker is shown among the others for so long: its jobs come back within that time. */
const RECENTLY_MS = 3_600_000;

/** The lost workers that answered a while ago still. */
export function recentlyLost(workers: readonly Worker[], now: number): Worker[] {
  return workers.filter(
    ({ state, last_seen_at }) => state === 'lost' && now - new Date(last_seen_at).getTime() < RECENTLY_MS,
  );
}

/** Workers that are gone, in words; empty if there are none. */
export function sayGone(numStopped: number, numLost: number): string {
  if (numLost === 0) return numStopped === 0 ? '' : counted(numStopped, 'stopped worker');
  if (numStopped === 0) return counted(numLost, 'lost worker');
  return `${numStopped} stopped and ${counted(numLost, 'lost worker')}`;
}

/** When a worker that is gone was there last. */
export function endOf({ stopped_at, last_seen_at }: Worker): string {
  return stopped_at ?? last_seen_at;
}

/** Workers that are gone, the last one first. */
export function lastFirst(workers: readonly Worker[]): Worker[] {
  return [...workers].sort((one, other) => new Date(endOf(other)).getTime() - new Date(endOf(one)).getTime());
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
