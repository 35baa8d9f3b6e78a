/** What can be done with a job, in which state, and doing it. */

import { api } from '../api/client';
import type { State } from '../words';
import type { Job } from './job.svelte';

export type JobAction = 'pause' | 'resume' | 'cancel' | 'retry' | 'clone' | 'delete';

const ENDED: readonly JobAction[] = ['retry', 'clone', 'delete'];

/** The actions that a state allows, the likeliest first. */
export const ACTIONS: Record<State, readonly JobAction[]> = {
  queued: ['pause', 'cancel', 'clone'],
  running: ['pause', 'cancel', 'clone'],
  pausing: ['cancel', 'clone'],
  cancelling: ['clone'],
  paused: ['resume', 'cancel', 'clone'],
  succeeded: ENDED,
  failed: ENDED,
  cancelled: ENDED,
};

/** Pauses, resumes or cancels a job and returns it as it is then. */
export async function act(action: 'pause' | 'resume' | 'cancel', id: string): Promise<Job> {
  const params = { params: { path: { job_id: id } } };
  switch (action) {
    case 'pause':
      return (await api.POST('/jobs/{job_id}/pause', params)).data;
    case 'resume':
      return (await api.POST('/jobs/{job_id}/resume', params)).data;
    case 'cancel':
      return (await api.POST('/jobs/{job_id}/cancel', params)).data;
  }
}

/** Deletes a job that has ended, and all that belongs to it. */
export async function remove(id: string): Promise<void> {
  await api.DELETE('/jobs/{job_id}', { params: { path: { job_id: id } } });
}
