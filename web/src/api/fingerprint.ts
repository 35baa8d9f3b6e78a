/** What tells files apart without reading them, to know them again after a reload. */

import { type FolderFile, inOrder } from './tar';

/** A fingerprint of paths, sizes and times. `crypto.subtle` is not there on plain http, and nobody attacks this. */
export function fingerprintOf(files: FolderFile[]): string {
  const lines = inOrder(files).map(({ path, file }) => `${path}\0${file.size}\0${file.lastModified}`);
  return hash(lines.join('\n'), 0x811c9dc5) + hash(lines.join('\n'), 0x9747b28c);
}

/** FNV-1a with 32 bits. */
function hash(text: string, start: number): string {
  let value = start;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193);
  return (value >>> 0).toString(16).padStart(8, '0');
}
