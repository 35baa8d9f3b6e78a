/**
 * A folder as one tar file, made of `Blob` parts: nothing is read before it is sent, and any part can be sent again.
 * The order and the headers depend on paths, sizes and times alone, so the same folder is the same tar after a reload.
 */

/** A file of a folder, with its path from the folder on: `flowers/daisy/1.jpg`. */
export interface FolderFile {
  path: string;
  file: File;
}

const BLOCK = 512;
const MAX_SIZE = 8 ** 11 - 1; // what the header's eleven octal digits can say
const JUNK = /(^|\/)(\.[^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(\/|$)/i;

/** Leaves out what systems put into folders and no dataset is made of, such as `.DS_Store`. */
export function withoutJunk(files: FolderFile[]): FolderFile[] {
  return files.filter(({ path }) => !JUNK.test(path));
}

/** Makes the tar. */
export function tarOf(files: FolderFile[]): Blob {
  const parts: BlobPart[] = [];
  for (const { path, file } of inOrder(files)) {
    parts.push(...headersOf(path, file.size, Math.floor(file.lastModified / 1000)), file);
    const padding = (BLOCK - (file.size % BLOCK)) % BLOCK;
    if (padding > 0) parts.push(new Uint8Array(padding));
  }
  parts.push(new Uint8Array(2 * BLOCK)); // two empty blocks are the end
  return new Blob(parts, { type: 'application/x-tar' });
}

/** The files in the order of the tar: by path, the same on every machine. */
export function inOrder(files: FolderFile[]): FolderFile[] {
  return [...files].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

function headersOf(path: string, size: number, mtime: number): Uint8Array<ArrayBuffer>[] {
  if (size > MAX_SIZE) throw new RangeError(`${path} has more than 8 GiB: a picture is never as large`);
  const split = splitPath(path);
  if (split !== null) return [header(split.name, split.prefix, size, mtime, '0')];
  // Neither short nor ASCII: POSIX's extended header says the path in UTF-8, before a header with a stand-in.
  const record = paxRecord('path', path);
  const padded = new Uint8Array(Math.ceil(record.length / BLOCK) * BLOCK);
  padded.set(record);
  return [
    header('path', 'PaxHeader', record.length, mtime, 'x'),
    padded,
    header('long-path', '', size, mtime, '0'),
  ];
}

/** Divides a path between the header's two fields of 100 and 155 characters; null: it does not fit. */
function splitPath(path: string): { name: string; prefix: string } | null {
  if (!/^[\x20-\x7e]*$/.test(path)) return null;
  if (path.length <= 100) return { name: path, prefix: '' };
  const slash = path.indexOf('/', path.length - 101);
  if (slash <= 0 || slash > 155 || slash === path.length - 1) return null;
  return { name: path.slice(slash + 1), prefix: path.slice(0, slash) };
}

/** A record is its own length in decimal digits, a space, `key=value` and a line break. */
function paxRecord(key: string, value: string): Uint8Array {
  const body = new TextEncoder().encode(` ${key}=${value}\n`);
  let digits = 1;
  while (String(body.length + digits).length !== digits) digits++;
  const start = new TextEncoder().encode(String(body.length + digits));
  const record = new Uint8Array(start.length + body.length);
  record.set(start);
  record.set(body, start.length);
  return record;
}

function header(
  name: string,
  prefix: string,
  size: number,
  mtime: number,
  kind: string,
): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const put = (at: number, value: string) => block.set(new TextEncoder().encode(value), at);
  put(0, name);
  put(100, octal(0o644, 8)); // mode
  put(108, octal(0, 8)); // user
  put(116, octal(0, 8)); // group
  put(124, octal(size, 12));
  put(136, octal(Math.max(0, mtime), 12));
  put(148, '        '); // the checksum counts itself as spaces
  put(156, kind);
  put(257, 'ustar\0' + '00');
  put(345, prefix);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return block;
}

function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\0`;
}
