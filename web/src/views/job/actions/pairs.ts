/** Metadata as lines of text: `team=vision`. */

/** Writes pairs, one a line. */
export function writePairs(pairs: Record<string, string>): string {
  return Object.entries(pairs)
    .map(([key, value]) => `${key}=${value}`)
    .join('\n');
}

/** Reads pairs; a line without `=` is a key with an empty value, and empty lines are nothing. */
export function readPairs(text: string): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    const key = (at < 0 ? line : line.slice(0, at)).trim();
    if (key !== '') pairs[key] = at < 0 ? '' : line.slice(at + 1).trim();
  }
  return pairs;
}
