/** What can be asked: `latest`, aliases, jobs and checkpoints, and how each is said. */

import type { Schemas } from '../../api/client';
import { tail } from '../../format';

export interface Choice {
  value: string;
  text: string;
}
export interface Group {
  title: string;
  choices: Choice[];
}
/** What is needed of a job. */
export interface KnownJob {
  id: string;
  name: string | null;
  created_at: string;
  latest_checkpoint: string | null;
  best?: Record<string, number | string | null> | null;
}

export const LATEST = 'latest';
const MOST_JOBS = 40;

/** The name of a job, or the end of its id. */
export function sayJob(id: string, jobs: ReadonlyMap<string, KnownJob>): string {
  return jobs.get(id)?.name ?? `job ${tail(id)}`;
}

/** All that can be chosen; what was chosen is among it, even if nobody knows it. */
export function choicesOf(
  jobs: ReadonlyMap<string, KnownJob>,
  aliases: Schemas['AliasRead'][],
  chosen: string,
): Group[] {
  const trained = [...jobs.values()]
    .filter(({ latest_checkpoint: checkpoint, id }) => checkpoint !== null || chosen.startsWith(id))
    .sort((a, b) => b.created_at.localeCompare(a.created_at))
    .slice(0, MOST_JOBS);
  const groups: Group[] = [
    { title: 'Newest', choices: [{ value: LATEST, text: 'latest: the newest of all jobs' }] },
    { title: 'Aliases', choices: aliases.map(({ name }) => ({ value: name, text: name })) },
    {
      title: 'Jobs',
      choices: trained.flatMap(({ id }) => [
        { value: id, text: `${sayJob(id, jobs)}: best epoch` },
        { value: `${id}@latest`, text: `${sayJob(id, jobs)}: newest epoch` },
      ]),
    },
  ].filter(({ choices }) => choices.length > 0);
  const known = groups.some(({ choices }) => choices.some(({ value }) => value === chosen));
  return known
    ? groups
    : [...groups, { title: 'Chosen', choices: [{ value: chosen, text: sayChosen(chosen, jobs) }] }];
}

function sayChosen(chosen: string, jobs: ReadonlyMap<string, KnownJob>): string {
  const [id = '', which] = chosen.split('@');
  if (id.startsWith('ckpt_')) return `checkpoint ${tail(id)}`;
  if (!id.startsWith('job_')) return chosen;
  return `${sayJob(id, jobs)}: ${which?.replace('-', ' ') ?? 'best epoch'}`;
}

/** What to ask to follow a job while it trains; null: this never changes by training. */
export function followed(model: string): string | null {
  if (model === LATEST) return LATEST;
  const [id = ''] = model.split('@');
  return id.startsWith('job_') ? `${id}@latest` : null;
}
