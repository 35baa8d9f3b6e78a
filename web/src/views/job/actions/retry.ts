/** What a retry may change, and the body of its request. */

/** The options that the dialog offers for a run from the start; all others are Clone's. */
export const OFTEN_CHANGED = ['epochs', 'lr', 'batch_size', 'image_px'] as const;
/** The only ones that a run which goes on may change, and only to higher values. */
export const EXTENDED = ['epochs', 'max_runtime_s'] as const;

export type Fields = Record<string, string>;

/** The option that helps against a failure, to be focused. */
export function optionToChange(code: string | undefined): string | null {
  const options: Record<string, string> = {
    diverged: 'lr',
    out_of_memory: 'batch_size',
    trainer_killed: 'batch_size',
    max_runtime: 'max_runtime_s',
  };
  return options[code ?? ''] ?? null;
}

/** Returns where a retry of such a job begins by itself. */
export function startOf(job: {
  latest_checkpoint: string | null;
  error: { [key: string]: unknown } | null;
}): string {
  return job.latest_checkpoint === null || job.error?.code === 'diverged' ? 'start' : 'latest';
}

/**
 * Returns the overrides: the fields that have another value than the job had.
 *
 * @param before the values that the job was trained with; a field of an unknown name is not sent
 */
export function overridesOf(fields: Fields, before: Record<string, unknown>): Record<string, number> {
  const changed: Record<string, number> = {};
  for (const [name, text] of Object.entries(fields)) {
    if (text.trim() === '' || Number(text) === before[name]) continue;
    changed[name] = Number(text);
  }
  return changed;
}
