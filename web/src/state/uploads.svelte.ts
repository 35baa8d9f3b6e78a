/** The uploads of this page. They go on while other views are shown, and are found again after a reload. */

import { api, hasKeyNow, type Schemas } from '../api/client';
import { blobOf, type Source } from '../api/dropped';
import { ApiError } from '../api/errors';
import { fingerprintOf } from '../api/fingerprint';
import { browserLine } from '../api/line';
import { Upload, type UploadView } from '../api/upload';

/** What `POST /datasets` takes beside the upload. */
export type DatasetOptions = Omit<Schemas['DatasetCreate'], 'upload' | 'path'>;

/** What is remembered of an upload, under the fingerprint of its files. */
export interface Kept {
  upload: string;
  dataset: string | null;
  fileName: string;
  kind: Source['kind'];
  sizeBytes: number;
  options: DatasetOptions;
}

const STORE = 'trainyard.uploads:';

/** One upload of this page and the dataset that is made of it. */
export class DatasetUpload {
  readonly fingerprint: string;
  readonly fileName: string;
  readonly kind: Source['kind'];
  readonly options: DatasetOptions;
  /** The dataset's id, once the yard has it. */
  dataset = $state<string | null>(null);
  view = $state.raw<UploadView>()!;
  readonly #upload: Upload;

  constructor(source: Source, options: DatasetOptions) {
    const blob = blobOf(source);
    this.fingerprint = fingerprintOf(source.files);
    this.fileName = source.fileName;
    this.kind = source.kind;
    const kept = memory.read()[this.fingerprint];
    this.options = kept?.options ?? options;
    this.dataset = kept?.dataset ?? null;
    this.#upload = new Upload({
      blob,
      fileName: source.fileName,
      fingerprint: this.fingerprint,
      line: browserLine,
      memory: {
        find: () => kept?.upload ?? null,
        keep: (_, upload) => this.#keep({ upload, dataset: null, sizeBytes: blob.size }),
        forget: () => memory.write(this.fingerprint, null),
      },
      askForKey: hasKeyNow,
      onBegun: (id) => this.#makeDataset(id, blob.size),
      onChange: (view) => (this.view = view),
    });
    this.view = this.#upload.view;
  }

  start(): void {
    void this.#upload.start();
  }

  pause(): void {
    this.#upload.pause();
  }

  /** Ends it, and removes what the yard has of it. */
  async cancel(): Promise<void> {
    this.#upload.cancel();
    await discard({ upload: this.view.id, dataset: this.dataset });
  }

  async #makeDataset(upload: string, sizeBytes: number): Promise<void> {
    if (this.dataset !== null && memory.read()[this.fingerprint]?.upload === upload) return;
    // The upload's id is the key: after an answer that was lost, or a reload, the same request finds its dataset.
    const { data } = await api.POST('/datasets', {
      body: { ...this.options, upload },
      params: { header: { 'Idempotency-Key': upload } },
    });
    this.dataset = data.id;
    this.#keep({ upload, dataset: data.id, sizeBytes });
  }

  #keep(some: Pick<Kept, 'upload' | 'dataset' | 'sizeBytes'>): void {
    memory.write(this.fingerprint, {
      ...some,
      fileName: this.fileName,
      kind: this.kind,
      options: this.options,
    });
  }
}

class Uploads {
  list = $state.raw<DatasetUpload[]>([]);
  /** What an earlier page has begun, by fingerprint: it goes on with the same files. */
  kept = $state.raw<Record<string, Kept>>({});

  constructor() {
    window.addEventListener('online', () => {
      for (const one of this.list) if (one.view.phase === 'waiting') one.start();
    });
    window.addEventListener('beforeunload', (event) => {
      if (this.list.some(({ view }) => view.phase === 'sending' || view.phase === 'waiting'))
        event.preventDefault();
    });
    window.addEventListener('storage', () => this.refresh());
    this.refresh();
  }

  /** Sends a source, or goes on with it if it was begun before. */
  add(source: Source, options: DatasetOptions): DatasetUpload {
    const one = new DatasetUpload(source, options);
    const again = this.list.find(({ fingerprint, view }) => fingerprint === one.fingerprint && !isOver(view));
    if (again !== undefined) {
      again.start();
      return again;
    }
    this.list = [...this.list, one];
    one.start();
    return one;
  }

  /** Takes one off the list. */
  remove(one: DatasetUpload): void {
    this.list = this.list.filter((other) => other !== one);
    this.refresh();
  }

  /** The upload that a dataset is made of, while this page sends it. */
  of(dataset: string): DatasetUpload | undefined {
    return this.list.find((one) => one.dataset === dataset && !isOver(one.view));
  }

  /** What is remembered of a dataset's upload that no page sends right now. */
  keptOf(
    dataset: Pick<Schemas['DatasetRead'], 'id' | 'upload'>,
  ): { fingerprint: string; kept: Kept } | undefined {
    // By its upload if this page was closed before the yard's answer named the dataset.
    const found = Object.entries(this.kept).find(
      ([, kept]) => kept.dataset === dataset.id || kept.upload === dataset.upload,
    );
    return found === undefined ? undefined : { fingerprint: found[0], kept: found[1] };
  }

  /** Forgets one that an earlier page has begun, and removes what the yard has of it. */
  async discard(fingerprint: string): Promise<void> {
    const kept = this.kept[fingerprint];
    memory.write(fingerprint, null);
    if (kept !== undefined) await discard(kept);
  }

  refresh(): void {
    this.kept = memory.read();
  }
}

function isOver({ phase }: UploadView): boolean {
  return phase === 'whole' || phase === 'cancelled';
}

/** Removes a dataset that waits for an upload, then the upload; what is gone already is no error. */
async function discard({
  upload,
  dataset,
}: {
  upload: string | null;
  dataset: string | null;
}): Promise<void> {
  if (dataset !== null) {
    await unlessGone(api.DELETE('/datasets/{dataset_id}', { params: { path: { dataset_id: dataset } } }));
  }
  if (upload === null) return;
  const params = { path: { upload_id: upload } };
  await unlessGone(api.DELETE('/uploads/{upload_id}', { params, headers: { 'Tus-Resumable': '1.0.0' } }));
}

async function unlessGone(asking: Promise<unknown>): Promise<void> {
  try {
    await asking;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
}

/** The browser's store; one that keeps nothing means only that a reload begins anew. */
const memory = {
  key: STORE + new URL('.', document.baseURI).pathname,
  read(): Record<string, Kept> {
    try {
      return JSON.parse(localStorage.getItem(this.key) ?? '{}') as Record<string, Kept>;
    } catch {
      return {};
    }
  },
  write(fingerprint: string, kept: Kept | null): void {
    const all = this.read();
    if (kept === null) delete all[fingerprint];
    else all[fingerprint] = kept;
    try {
      localStorage.setItem(this.key, JSON.stringify(all));
    } catch {
      // see above
    }
    uploads.refresh();
  },
};

export const uploads = new Uploads();
