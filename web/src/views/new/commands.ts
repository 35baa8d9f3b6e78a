/** The same job without the page: as a command and as Python. */

import type { JobCreate } from './draft.svelte';

/** As curl; a yard with a key needs `-H "Authorization: Bearer …"` too, which the page does not know. */
export function asCurl(base: string, body: JobCreate): string {
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl ${base}/jobs -H 'Content-Type: application/json' -d '${json}'`;
}

/** As Python with the client. */
export function asPython(base: string, { dataset, ...fields }: JobCreate): string {
  const given = Object.entries(fields).map(([name, value]) => `    ${name}=${python(value)},`);
  return [
    'from trainyard.client import Client',
    '',
    `client = Client(${python(base)})`,
    'job = client.create_job(',
    `    ${python(dataset)},`,
    ...given,
    ')',
  ].join('\n');
}

/** A JSON value as Python writes it. */
export function python(value: unknown): string {
  if (value === null || value === undefined) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`;
  if (typeof value === 'object') {
    return `{${Object.entries(value)
      .map(([key, item]) => `${python(key)}: ${python(item)}`)
      .join(', ')}}`;
  }
  return JSON.stringify(value);
}
