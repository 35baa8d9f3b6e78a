/** Sentences for the API's codes. A test compares the tables with the server's: each code that it can send stands here. */

import { duration } from './format';
import type { IconName } from './parts/icons';

export type State =
  'queued' | 'running' | 'pausing' | 'cancelling' | 'paused' | 'succeeded' | 'failed' | 'cancelled';
export type Tone = 'dim' | 'accent' | 'warn' | 'good' | 'bad';

/** How a state looks, beside its own word. */
export const STATES: Record<State, { icon: IconName; tone: Tone }> = {
  queued: { icon: 'ring', tone: 'dim' },
  running: { icon: 'running', tone: 'accent' },
  pausing: { icon: 'half', tone: 'warn' },
  cancelling: { icon: 'half', tone: 'warn' },
  paused: { icon: 'paused', tone: 'warn' },
  succeeded: { icon: 'succeeded', tone: 'good' },
  failed: { icon: 'failed', tone: 'bad' },
  cancelled: { icon: 'slash', tone: 'dim' },
};

/** What a queued job waits for. */
export const WAITS: Record<string, string> = {
  no_live_worker: 'no worker is running',
  no_worker_of_this_version: 'no worker of this version is running',
  retry_backoff: 'waits before its next try',
  disk_full: 'waits for space on the disk',
  owner_limit: 'its owner’s other jobs go first',
  dataset: 'waits for its dataset',
  upload: 'waits for its upload',
  a_free_slot: 'waits for a free slot',
};

/** What a running job does. */
export const DOES: Record<string, string> = {
  claimed: 'starting',
  preparing_dataset: 'preparing its dataset',
  waiting_for_device: 'waits for its GPU',
  training: 'training',
  evaluating: 'evaluating',
};

/** Why a job has the state it has, or why an event happened. */
export const REASONS: Record<string, string> = {
  submitted: 'submitted',
  resumed: 'resumed',
  requested: 'requested',
  paused: 'its slot is free',
  cancelled: 'stopped on request',
  finished: 'finished',
  drained: 'its worker was stopped; it goes on where it was',
  released: 'its worker gave it back',
  not_learning: 'the loss does not fall',
  dead_units: 'many units never answer',
  layers_started_anew: 'layers that did not fit start anew',
  uploaded: 'its upload is complete',
  stored: 'stored',
};

/** What failed, and what to do about it. */
export const FAILURES: Record<string, { what: string; fix: string }> = {
  trainer_killed: {
    what: 'The training process was killed, often because memory ran out.',
    fix: 'Look at the kernel’s log, and lower batch_size.',
  },
  hung: { what: 'Training made no progress for too long and was stopped.', fix: 'Look at the job’s log.' },
  lease_lost: {
    what: 'The worker stopped answering.',
    fix: 'Check whether the worker is running; another one takes the job over.',
  },
  internal_error: {
    what: 'The training process ended with an unexpected error.',
    fix: 'Look at the job’s log, and report it.',
  },
  protocol_error: { what: 'Worker and trainer are of different versions.', fix: 'Restart the worker.' },
  preparation_failed: { what: 'The dataset could not be prepared.', fix: 'Look at the worker’s log.' },
  checkpoint_corrupt: {
    what: 'The checkpoint to resume from was damaged; the one before it is used.',
    fix: 'Check the disk.',
  },
  checkpoint_missing: {
    what: 'The checkpoint to resume from is not in the store; the one before it is used.',
    fix: 'Bring its files back.',
  },
  storage_unavailable: {
    what: 'The store could not be used for a long time.',
    fix: 'Check the store; the job goes on by itself.',
  },
  disk_full: { what: 'The disk is full.', fix: 'Free some space; the job goes on by itself.' },
  max_runtime: {
    what: 'The job has trained for as long as its max_runtime_s allows; its last step is saved.',
    fix: 'Retry it from its latest checkpoint with more max_runtime_s.',
  },
  no_valid_checkpoint: {
    what: 'The checkpoint that the job should begin with is damaged or gone.',
    fix: 'Begin with another one, or from the start.',
  },
  out_of_memory: {
    what: 'The job does not fit into the device’s memory.',
    fix: 'Lower batch_size or image_px.',
  },
  diverged: {
    what: 'The loss or a weight is no longer a finite number.',
    fix: 'Retry from the start with a lower lr, or use another recipe.',
  },
  dataset_unavailable: { what: 'The dataset’s source files were not found.', fix: 'Put them there.' },
  dataset_rejected: {
    what: 'The job waited for a dataset that was rejected.',
    fix: 'Correct the dataset, and queue a new job.',
  },
  dataset_invalid: {
    what: 'The dataset’s files can’t be trained on.',
    fix: 'Its report says what to change.',
  },
  dataset_too_costly: {
    what: 'To read the dataset takes more memory, time or disk than is allowed.',
    fix: 'Take fewer or smaller images, or raise the limit in the yard’s settings.',
  },
  parser_crash: {
    what: 'The process that reads the dataset crashed on one of its files.',
    fix: 'Look for a damaged file, and report it.',
  },
  validation_killed: {
    what: 'The process that reads the dataset was killed, often because memory ran out.',
    fix: 'Look at the kernel’s log.',
  },
  prediction_failed: {
    what: 'The process that predicts was killed or ended with an error.',
    fix: 'Look at the kernel’s log; it goes on behind the last stored row.',
  },
  upload_missing: { what: 'The upload is gone.', fix: 'Upload the file again.' },
  quota_exceeded: {
    what: 'The results take more than their owner may have.',
    fix: 'Delete datasets, uploads or predictions that are not needed.',
  },
  dataset_changed: {
    what: 'The dataset is not the one that this job began with.',
    fix: 'Queue a new job.',
  },
  dataset_damaged: { what: 'The dataset’s pack was damaged on disk.', fix: 'Check the disk.' },
  config_invalid: { what: 'The config can’t be trained on this dataset.', fix: 'Correct the options.' },
  checkpoint_incompatible: { what: 'The checkpoint does not fit this job.', fix: 'Queue a new job.' },
  crash_loop: {
    what: 'It failed again and again without getting further.',
    fix: 'Fix what the message names, then retry the job.',
  },
};

/** The state of a worker. */
export const WORKERS: Record<string, { icon: IconName; tone: Tone; text: string }> = {
  live: { icon: 'succeeded', tone: 'good', text: 'takes jobs' },
  draining: { icon: 'half', tone: 'warn', text: 'finishes its jobs and takes no more' },
  lost: { icon: 'failed', tone: 'bad', text: 'does not answer: its jobs come back when their lease ends' },
  stopped: { icon: 'slash', tone: 'dim', text: 'ended normally' },
};

/** The state of a dataset. */
export const DATASETS: Record<string, { icon: IconName; tone: Tone; text: string }> = {
  registered: { icon: 'ring', tone: 'dim', text: 'built in; made ready before its first job' },
  uploading: { icon: 'half', tone: 'accent', text: 'its upload is not complete' },
  validating: { icon: 'half', tone: 'accent', text: 'a worker reads its images' },
  ready: { icon: 'succeeded', tone: 'good', text: 'can be trained on' },
  rejected: { icon: 'failed', tone: 'bad', text: 'can’t be trained on' },
  deleted: { icon: 'slash', tone: 'dim', text: 'deleted' },
};

/** What `sayState` needs of a job. */
export interface Told {
  state: State;
  state_reason?: string | null;
  waiting_for?: string | null;
  queue_position?: number | null;
  error?: { code?: unknown; message?: unknown } | null;
}

/** Why a job is in its state, in words: "place 2, waits for a free slot"; '': there is nothing to add. */
export function sayState(job: Told): string {
  switch (job.state) {
    case 'queued': {
      const place = job.queue_position ? `place ${job.queue_position}` : '';
      return [place, sayWait(job.waiting_for)].filter(Boolean).join(', ');
    }
    case 'running':
      return DOES[job.state_reason ?? ''] ?? 'training';
    case 'pausing':
    case 'cancelling':
      return 'ends this step';
    case 'paused':
      return 'its slot is free';
    case 'failed':
      return String(job.error?.code ?? job.state_reason ?? '');
    default:
      return '';
  }
}

/** What a queued job waits for, in words. */
export function sayWait(code: string | null | undefined): string {
  return code ? (WAITS[code] ?? plain(code)) : '';
}

/** A `reason` of the API in words; an unknown one is its own code, readable. */
export function sayReason(code: string | null | undefined): string {
  if (!code) return '';
  return REASONS[code] ?? DOES[code] ?? WAITS[code] ?? FAILURES[code]?.what ?? plain(code);
}

/** What a failure code means and what to do; an unknown one says so. */
export function sayFailure(code: string): { what: string; fix: string } {
  return FAILURES[code] ?? { what: plain(code), fix: 'Look at the job’s log.' };
}

/** How long is left, as a rest and a clock time: "3 min left (14:32)". */
export function sayRest(seconds: number, now: Date): string {
  const end = new Date(now.getTime() + seconds * 1000);
  const time = end.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return `${duration(seconds)} left (${time})`;
}

/** A code made readable. */
function plain(code: string): string {
  return code.replaceAll('_', ' ');
}

/** A sentence's beginning in a capital letter. */
export function capital(text: string): string {
  return text === '' ? '' : `${text[0]!.toUpperCase()}${text.slice(1)}`;
}
