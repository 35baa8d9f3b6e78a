/** Numbers out of the API's open objects, such as a job's `best` and `metrics`. */

/** Returns the number under a name; null if there is none. */
export function numberIn(values: Record<string, unknown> | null | undefined, name: string): number | null {
  const value = values?.[name];
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}
