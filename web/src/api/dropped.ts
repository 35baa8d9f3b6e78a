/** What was dropped or chosen, as sources of datasets: an archive as it is, or a folder of class folders. */

import { type FolderFile, inOrder, tarOf, withoutJunk } from './tar';

export interface Source {
  kind: 'archive' | 'folder';
  /** What the yard calls the file: `flowers.zip`, `flowers.tar`. */
  fileName: string;
  /** A name for the dataset: `flowers`. */
  name: string;
  /** The archive itself, or the folder's files in order. */
  files: FolderFile[];
  /** How many folders have files in them; 0 for an archive. */
  numFolders: number;
}

/** What was dropped and no dataset can be made of, by name. */
export interface Sorted {
  sources: Source[];
  refused: string[];
}

const ARCHIVE = /\.(zip|tar|tgz|tar\.gz|tzst|tar\.zst)$/i;

/** Sorts files with their paths, as a field for files or for a folder gives them. */
export function sortFiles(files: FolderFile[]): Sorted {
  const alone = files.filter(({ path }) => !path.includes('/'));
  const archives = alone.filter(({ path }) => ARCHIVE.test(path)).map(archiveOf);
  const refused = withoutJunk(alone.filter(({ path }) => !ARCHIVE.test(path))).map(({ path }) => path);
  const folders = foldersOf(withoutJunk(files.filter(({ path }) => path.includes('/'))));
  return { sources: [...archives, ...folders], refused };
}

/** Reads the chosen files of an `<input type="file">`, with or without `webkitdirectory`. */
export function chosenFiles(files: FileList): FolderFile[] {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** Reads what was dropped, folders with all that is in them. The transfer must be read before the event ends. */
export async function droppedFiles(transfer: DataTransfer): Promise<FolderFile[]> {
  const entries = [...transfer.items]
    .map((item) => item.webkitGetAsEntry())
    .filter((entry) => entry !== null);
  if (entries.length === 0) return chosenFiles(transfer.files);
  const found: FolderFile[] = [];
  for (const entry of entries) await walk(entry, '', found);
  return found;
}

/** The bytes that are sent: the archive, or the folder as a tar. */
export function blobOf(source: Source): Blob {
  return source.kind === 'archive' ? source.files[0]!.file : tarOf(source.files);
}

function archiveOf(only: FolderFile): Source {
  return {
    kind: 'archive',
    fileName: only.path,
    name: only.path.replace(ARCHIVE, ''),
    files: [only],
    numFolders: 0,
  };
}

/** A folder each; folders that hold only files are classes of one dataset, as when all of them are dropped at once. */
function foldersOf(files: FolderFile[]): Source[] {
  const byRoot = new Map<string, FolderFile[]>();
  for (const one of files) {
    const root = one.path.slice(0, one.path.indexOf('/'));
    const some = byRoot.get(root);
    if (some === undefined) byRoot.set(root, [one]);
    else some.push(one);
  }
  const isFlat = ([root, some]: [string, FolderFile[]]) =>
    some.every(({ path }) => !path.slice(root.length + 1).includes('/'));
  const roots = [...byRoot];
  const classes = roots.filter(isFlat);
  const together =
    classes.length > 1
      ? [
          folderOf(
            'dataset',
            classes.flatMap(([, some]) => some),
          ),
        ]
      : [];
  const others = classes.length > 1 ? roots.filter((root) => !isFlat(root)) : roots;
  return [...others.map(([root, some]) => folderOf(root, some)), ...together];
}

function folderOf(name: string, files: FolderFile[]): Source {
  const folders = new Set(files.map(({ path }) => path.slice(0, path.lastIndexOf('/'))));
  return { kind: 'folder', fileName: `${name}.tar`, name, files: inOrder(files), numFolders: folders.size };
}

async function walk(entry: FileSystemEntry, above: string, found: FolderFile[]): Promise<void> {
  const path = `${above}${entry.name}`;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    found.push({ path, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // a reader gives a hundred at a time, and none at the end
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (some.length === 0) return;
    for (const one of some) await walk(one, `${path}/`, found);
  }
}
