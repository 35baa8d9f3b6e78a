/** What a job would be: `POST /recipes/preview`, asked a moment after the last key. */

import { api, ApiError, type Schemas } from '../../api/client';
import type { JobCreate } from './draft.svelte';

export type JobPreview = Schemas['PreviewRead'];

const AFTER_MS = 300;

export class Preview {
  shown = $state.raw<JobPreview | null>(null);
  /** Why the options are refused, or that the yard does not answer. */
  error = $state.raw<ApiError | null>(null);

  /** Asks soon, unless the function that this returns is called before. */
  ask({ dataset, recipe, overrides }: JobCreate): () => void {
    const stop = new AbortController();
    const timer = setTimeout(() => void this.#ask({ dataset, recipe, overrides }, stop.signal), AFTER_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }

  async #ask(body: Schemas['PreviewCreate'], signal: AbortSignal): Promise<void> {
    try {
      this.shown = (await api.POST('/recipes/preview', { body, signal })).data as JobPreview; // tuples, which openapi-fetch widens
      this.error = null;
    } catch (error) {
      if (signal.aborted || !(error instanceof ApiError)) return;
      this.error = error;
    }
  }
}
