import { describe, expect, it } from 'vitest';
import { blobOf, droppedFiles, sortFiles } from '../../src/api/dropped';
import type { FolderFile } from '../../src/api/tar';

function files(...paths: string[]): FolderFile[] {
  return paths.map((path) => ({ path, file: new File(['12345'], path.split('/').at(-1)!) }));
}

describe('what was dropped', () => {
  it.each(['flowers.zip', 'flowers.tar', 'flowers.tar.gz', 'flowers.TGZ', 'flowers.tar.zst'])(
    '%s is sent as it is',
    (name) => {
      const { sources } = sortFiles(files(name));
      expect(sources).toMatchObject([{ kind: 'archive', fileName: name, name: 'flowers' }]);
      expect(blobOf(sources[0]!).size).toBe(5);
    },
  );

  it('a folder of class folders is one tar', () => {
    const { sources, refused } = sortFiles(
      files('flowers/rose/1.jpg', 'flowers/daisy/1.jpg', 'flowers/.DS_Store'),
    );
    expect(refused).toEqual([]);
    expect(sources).toMatchObject([
      { kind: 'folder', fileName: 'flowers.tar', name: 'flowers', numFolders: 2 },
    ]);
    expect(sources[0]!.files.map(({ path }) => path)).toEqual(['flowers/daisy/1.jpg', 'flowers/rose/1.jpg']);
    expect(blobOf(sources[0]!).size).toBe(2 * 1024 + 1024);
  });

  it('class folders that come together are one dataset', () => {
    const { sources } = sortFiles(files('rose/1.jpg', 'daisy/1.jpg'));
    expect(sources).toMatchObject([{ name: 'dataset', numFolders: 2 }]);
  });

  it('folders of class folders are a dataset each', () => {
    const { sources } = sortFiles(files('flowers/rose/1.jpg', 'birds/owl/1.jpg', 'more.zip'));
    expect(sources.map(({ name }) => name).sort()).toEqual(['birds', 'flowers', 'more']);
  });

  it('single pictures are refused by name', () => {
    expect(sortFiles(files('cat.jpg', '.DS_Store'))).toEqual({ sources: [], refused: ['cat.jpg'] });
  });
});

/** A folder as a browser hands it over: two of its entries at a time. */
function folder(name: string, children: unknown[]): unknown {
  const left = [...children];
  return {
    name,
    isFile: false,
    createReader: () => ({ readEntries: (done: (some: unknown[]) => void) => done(left.splice(0, 2)) }),
  };
}

it('a dropped folder is read to its end, with the paths in it', async () => {
  const pictures = [1, 2, 3, 4, 5].map((number) => ({
    name: `${number}.jpg`,
    isFile: true,
    file: (done: (file: File) => void) => done(new File(['x'], `${number}.jpg`)),
  }));
  const entry = folder('flowers', [folder('rose', pictures), folder('empty', [])]);
  const transfer = { items: [{ webkitGetAsEntry: () => entry }], files: [] } as unknown as DataTransfer;
  expect((await droppedFiles(transfer)).map(({ path }) => path)).toEqual(
    [1, 2, 3, 4, 5].map((number) => `flowers/rose/${number}.jpg`),
  );
});
