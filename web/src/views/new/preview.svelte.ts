/** What a job would be: `POST /recipes/preview`, asked a moment after the last key. */

import { ApiError, send, url } from '../../api/client';
import type { JobCreate } from './draft.svelte';
import type { Config } from './options';

export interface Layer {
  name: string;
  shape: number[];
  parameters: number;
}

export interface JobPreview {
  config: Config;
  steps: number | null;
  num_parameters: number | null;
  layers: Layer[];
  /** The learning rate at up to 200 steps. */
  lr: [step: number, lr: number][];
  memory_bytes: number | null;
  seconds: { low: number; high: number; basis: string } | null;
  warnings: { param: string | null; message: string }[];
}

const AFTER_MS = 300;

export class Preview {
  shown = $state.raw<JobPreview | null>(null);
  /** Why the options are refused, or that the yard does not answer. */
  error = $state.raw<ApiError | null>(null);
  /** False on a yard whose API has no preview. */
  available = $state(true);

  /** Asks soon, unless the function that this returns is called before. */
  ask({ dataset, recipe, overrides }: JobCreate): () => void {
    const stop = new AbortController();
    const timer = setTimeout(() => void this.#ask({ dataset, recipe, overrides }, stop.signal), AFTER_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }

  async #ask(body: Partial<JobCreate>, signal: AbortSignal): Promise<void> {
    const headers = { 'Content-Type': 'application/json' };
    const request = new Request(url('/recipes/preview'), {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      signal,
    });
    try {
      this.shown = (await (await send(request)).json()) as JobPreview;
      this.error = null;
    } catch (error) {
      if (signal.aborted || !(error instanceof ApiError)) return;
      if (error.code === 'route_not_found' || error.code === 'method_not_allowed') this.available = false;
      else this.error = error;
    }
  }
}
