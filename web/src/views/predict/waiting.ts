/** What to say while no checkpoint can answer yet. */

import { duration } from '../../format';
import { sayState, type Told } from '../../words';

/** What is needed of a job. */
export interface Waited extends Told {
  progress: { epochs: number | null; fraction: number; eta_s: number | null };
}

export interface Wait {
  what: string;
  when: string;
  /** Whether a job must be started first. */
  start: boolean;
}

/** Says when the first answer comes: from the job's progress, or from that of any job that trains. */
export function sayFirstEpoch(job: Waited | undefined, all: Waited[]): Wait {
  const training =
    job ?? all.find(({ state }) => state === 'running') ?? all.find(({ state }) => state === 'queued');
  if (training === undefined) {
    return {
      what: 'Nothing has been trained yet.',
      when: 'A model answers as soon as its first epoch has ended.',
      start: true,
    };
  }
  const what = 'No epoch has ended yet.';
  const rest = firstEpochS(training);
  if (rest !== null) return { what, when: `First answer in about ${duration(rest)}.`, start: false };
  const why = sayState(training);
  return { what, when: `The job is ${training.state}${why === '' ? '' : `: ${why}`}.`, start: false };
}

/** Seconds until the first epoch ends; null: nobody knows. */
export function firstEpochS({ state, progress: { epochs, fraction, eta_s: eta } }: Waited): number | null {
  if (
    state !== 'running' ||
    eta === null ||
    epochs === null ||
    epochs === 0 ||
    fraction <= 0 ||
    fraction >= 1
  )
    return null;
  const whole = eta / (1 - fraction);
  return Math.max(0, whole / epochs - whole * fraction);
}
