/** What is being computed, and so is no failure. */

import { ApiError } from '../../../api/client';

const COMPUTING = new Set(['insight_in_progress', 'insight_queue_full', 'model_loading']);

/** Tells whether an answer only says that something is still being computed. */
export function isPassing(error: unknown): boolean {
  return error instanceof ApiError && COMPUTING.has(error.code);
}
