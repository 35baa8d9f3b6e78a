/** What the palette finds: views, actions, jobs and datasets. */

import { tail } from '../format';
import type { IconName } from '../parts/icons';
import { STATES, type State } from '../words';

export interface Entry {
  text: string;
  /** What it is, or how it stands. */
  note: string;
  icon: IconName;
  act: () => void;
}

/** What an entry needs of a job and of a dataset. */
export interface FoundJob {
  id: string;
  name: string | null;
  state: State;
  dataset: string;
}
export interface FoundDataset {
  id: string;
  name: string;
  state: string;
}

export function entryOfJob(job: FoundJob, open: (id: string) => void): Entry {
  return {
    text: job.name ?? `job ${tail(job.id)}`,
    note: `job, ${job.state}`,
    icon: STATES[job.state].icon,
    act: () => open(job.id),
  };
}

export function entryOfDataset(dataset: FoundDataset, open: (id: string) => void): Entry {
  return {
    text: dataset.name,
    note: `dataset, ${dataset.state}`,
    icon: 'datasets',
    act: () => open(dataset.id),
  };
}

/**
 * The entries that contain each word of what was typed; those whose text begins with it come first, and what was given
 * first comes first among equals.
 */
export function find(entries: readonly Entry[], typed: string, most: number): Entry[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = entries.filter((entry) => {
    const text = `${entry.text} ${entry.note}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const begins = (entry: Entry): number => (entry.text.toLowerCase().startsWith(words[0] ?? '') ? 0 : 1);
  return fitting.sort((one, other) => begins(one) - begins(other)).slice(0, most);
}
