import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type FolderFile, inOrder, tarOf, withoutJunk } from '../../src/api/tar';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'tar-'))));
afterEach(() => rmSync(folder, { recursive: true }));

function file(path: string, content = path, lastModified = 1_700_000_000_000): FolderFile {
  return { path, file: new File([content], path.split('/').at(-1)!, { lastModified }) };
}

/** What the system's tar makes of ours: each path with its content. */
async function unpacked(files: FolderFile[]): Promise<Record<string, string>> {
  const archive = join(folder, 'made.tar');
  writeFileSync(archive, new Uint8Array(await tarOf(files).arrayBuffer()));
  execFileSync('tar', ['-xf', archive, '-C', folder]);
  const names = execFileSync('tar', ['-tf', archive, '--quoting-style=literal'], { encoding: 'utf8' })
    .trim()
    .split('\n');
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

const DEEP = `${'folder/'.repeat(20)}picture.jpg`; // 151 characters, with slashes to divide it at
const LONG = `flowers/${'x'.repeat(180)}.jpg`; // a name that no header holds

it.each([['flowers/daisy/1.jpg'], ['flowers/päonie/ロゼ 1.jpg'], [DEEP], [LONG], [`${'ü'.repeat(120)}.jpg`]])(
  'the system’s tar reads %s',
  async (path) => {
    expect(await unpacked([file(path, 'the picture')])).toEqual({ [path]: 'the picture' });
  },
);

it('files of all sizes around a block come back whole', async () => {
  const files = [0, 1, 511, 512, 513, 1024, 5000].map((size) => file(`sizes/${size}`, 'z'.repeat(size)));
  const found = await unpacked(files);
  for (const { path } of files) expect(found[path]).toHaveLength(Number(path.split('/')[1]));
});

it('the same files in another order are the same bytes', async () => {
  const files = ['b/2', 'a/1', 'b/10', 'c'].map((path) => file(path));
  const bytes = async (some: FolderFile[]) => Buffer.from(await tarOf(some).arrayBuffer());
  expect(await bytes(files)).toEqual(await bytes([...files].reverse()));
  expect(inOrder(files).map(({ path }) => path)).toEqual(['a/1', 'b/10', 'b/2', 'c']);
});

it('the length is whole blocks, and is known without reading a file', () => {
  const unreadable = file('a/1', 'x'.repeat(700));
  unreadable.file.arrayBuffer = () => Promise.reject(new Error('read'));
  expect(tarOf([unreadable]).size).toBe(512 + 1024 + 1024);
});

it('what systems leave in folders is left out', () => {
  const paths = [
    'a/1.jpg',
    'a/.DS_Store',
    '.git/config',
    '__MACOSX/a/1.jpg',
    'a/Thumbs.db',
    'a/desktop.ini',
    'a/b.c/2',
  ];
  expect(withoutJunk(paths.map((path) => file(path))).map(({ path }) => path)).toEqual([
    'a/1.jpg',
    'a/b.c/2',
  ]);
});
