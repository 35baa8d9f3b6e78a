/** How long to wait before the next attempt at what failed for a passing reason. */

const LONGEST_S = 30;

/**
 * Seconds to wait after so many failures in a row: 1, 2, 4 to 30, give or take a quarter, so that not everybody comes
 * back at once. What the yard says in `Retry-After` wins.
 */
export function backOffS(failures: number, retryAfterS: number | null = null, random = Math.random): number {
  if (retryAfterS !== null) return Math.max(retryAfterS, 0.2);
  const even = Math.min(2 ** Math.max(0, failures - 1), LONGEST_S);
  return even * (0.75 + random() / 2);
}
