import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { noAnswer } from '../../src/api/errors';
import type { LineAnswer, LineRequest } from '../../src/api/line';
import { Upload, type UploadMemory, type UploadParts, type UploadView } from '../../src/api/upload';

/** A yard's uploads, as its documentation describes them; `faults` go before the next answers. */
class Yard {
  files = new Map<string, { size: number; bytes: Buffer; name: string }>();
  faults: ((request: LineRequest) => LineAnswer | null | Promise<LineAnswer>)[] = [];
  asked: string[] = [];
  line = async (request: LineRequest): Promise<LineAnswer> => {
    request.signal.throwIfAborted();
    this.asked.push(`${request.method} ${request.path}`);
    const fault = await this.faults.shift()?.(request);
    return fault ?? (await this.answer(request));
  };
  async answer({ method, path, headers, body, onSent }: LineRequest): Promise<LineAnswer> {
    if (method === 'POST') {
      const id = `upl_${this.files.size + 1}`;
      const name = Buffer.from((headers['Upload-Metadata'] ?? '').split(' ')[1] ?? '', 'base64').toString();
      this.files.set(id, { size: Number(headers['Upload-Length']), bytes: Buffer.alloc(0), name });
      return answered(201, { Location: `/user/x/uploads/${id}` });
    }
    const file = this.files.get(path.split('/').at(-1)!);
    if (file === undefined) return refused(404, 'upload_not_found');
    if (method === 'PATCH') {
      if (Number(headers['Upload-Offset']) !== file.bytes.length)
        return refused(409, 'upload_offset_mismatch');
      const bytes = await body!.bytes();
      file.bytes = Buffer.concat([file.bytes, bytes]);
      onSent?.(bytes.length);
    }
    return answered(200, { 'Upload-Offset': String(file.bytes.length) });
  }
}

function answered(status: number, headers: Record<string, string> = {}, body = ''): LineAnswer {
  return { status, header: (name) => headers[name] ?? null, body };
}

function refused(status: number, code: string, headers: Record<string, string> = {}): LineAnswer {
  return answered(status, headers, JSON.stringify({ error: { code, message: `It is ${code}.` } }));
}

const remembered = new Map<string, string>();
const memory: UploadMemory = {
  find: (fingerprint) => remembered.get(fingerprint) ?? null,
  keep: (fingerprint, id) => void remembered.set(fingerprint, id),
  forget: (fingerprint) => void remembered.delete(fingerprint),
};

const CONTENT = Uint8Array.from({ length: 40 * 1024 * 1024 }, (_, index) => index % 251); // three pieces
const SHORT = CONTENT.slice(0, 1000);

let yard: Yard;
let views: UploadView[];
beforeEach(() => {
  yard = new Yard();
  views = [];
  remembered.clear();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => vi.useRealTimers());

function make(content = SHORT, parts: Partial<UploadParts> = {}): Upload {
  return new Upload({
    blob: new Blob([content]),
    fileName: 'blümen.zip',
    fingerprint: 'f1',
    line: yard.line,
    memory,
    askForKey: () => Promise.resolve(false),
    onBegun: () => Promise.resolve(),
    onChange: (view) => views.push(view),
    ...parts,
  });
}

/** Runs it to its next stop, with all waits in between. */
async function finish(upload: Upload): Promise<UploadView> {
  let stopped = false;
  void upload.start().finally(() => (stopped = true));
  while (!stopped) {
    await vi.runAllTimersAsync();
    await new Promise(setImmediate);
  }
  return upload.view;
}

/** Cuts the line after half of a piece has arrived, as a killed yard does. */
async function cut({ path, body, onSent }: LineRequest): Promise<LineAnswer> {
  const bytes = await body!.bytes();
  const file = yard.files.get(path.split('/').at(-1)!)!;
  file.bytes = Buffer.concat([file.bytes, bytes.slice(0, bytes.length / 2)]);
  onSent?.(bytes.length);
  throw noAnswer();
}

describe('an upload', () => {
  it('arrives in pieces, byte for byte, under its name', async () => {
    const view = await finish(make(CONTENT));
    expect(view).toMatchObject({ phase: 'whole', sentBytes: CONTENT.length, error: null });
    const file = yard.files.get('upl_1')!;
    expect(file.name).toBe('blümen.zip');
    expect(file.bytes.equals(CONTENT)).toBe(true);
    expect(yard.asked.filter((what) => what.startsWith('PATCH'))).toHaveLength(3);
    expect(remembered.size).toBe(0);
  });

  it('goes on at the yard’s offset after a cut', async () => {
    yard.faults = [
      () => null,
      cut,
      () => Promise.reject(noAnswer()),
      () => refused(503, 'database_unavailable'),
    ];
    const view = await finish(make());
    expect(view.phase).toBe('whole');
    expect(yard.files.get('upl_1')!.bytes.equals(SHORT)).toBe(true);
    expect(yard.asked.slice(2)).toEqual([
      'GET /uploads/upl_1',
      'GET /uploads/upl_1',
      'GET /uploads/upl_1',
      'PATCH /uploads/upl_1',
    ]);
    const waits = views.filter(({ phase }) => phase === 'waiting');
    expect(waits).toHaveLength(3);
    expect(waits[0]).toMatchObject({ error: { code: 'no_answer' }, bytesPerS: null });
    expect(waits[0]!.retryAt).not.toBeNull();
  });

  it('waits as long as Retry-After says', async () => {
    yard.faults = [() => refused(503, 'too_many_uploads', { 'Retry-After': '120' })];
    const before = Date.now();
    await finish(make());
    expect(Date.now() - before).toBe(120_000);
  });

  it('goes on after a reload of the page, by the fingerprint of its file', async () => {
    yard.faults = [() => null, cut];
    const first = make();
    const stopped = first.start();
    await vi.advanceTimersByTimeAsync(100);
    first.pause();
    await vi.runAllTimersAsync();
    await stopped;
    const begun: string[] = [];
    const view = await finish(make(SHORT, { onBegun: async (id) => void begun.push(id) }));
    expect(view).toMatchObject({ phase: 'whole', id: 'upl_1' });
    expect(begun).toEqual(['upl_1']);
    expect(yard.files.get('upl_1')!.bytes.equals(SHORT)).toBe(true);
  });

  it('begins anew where the yard has forgotten it', async () => {
    remembered.set('f1', 'upl_old');
    const view = await finish(make());
    expect(view).toMatchObject({ phase: 'whole', id: 'upl_1' });
  });

  it('stops at a pause, and goes on', async () => {
    const upload = make(CONTENT);
    yard.faults = [() => null, () => null, () => (upload.pause(), null)];
    expect((await finish(upload)).phase).toBe('paused');
    const arrived = yard.files.get('upl_1')!.bytes.length;
    expect(arrived).toBeLessThan(CONTENT.length);
    expect((await finish(upload)).phase).toBe('whole');
    expect(yard.files.get('upl_1')!.bytes).toHaveLength(CONTENT.length);
  });

  it('does not wait once it is told to go on at once', async () => {
    yard.faults = [() => refused(503, 'too_many_uploads', { 'Retry-After': '3600' })];
    const upload = make();
    const done = upload.start();
    await vi.advanceTimersByTimeAsync(10);
    expect(upload.view.phase).toBe('waiting');
    void upload.start();
    await vi.advanceTimersByTimeAsync(10);
    await done;
    expect(upload.view.phase).toBe('whole');
  });

  it.each([
    [403, 'quota_exceeded'],
    [413, 'body_too_large'],
    [422, 'invalid_request'],
    [507, 'disk_full'],
  ])('that is refused with %i %s fails with those words, and can be tried again', async (status, code) => {
    yard.faults = [() => refused(status, code)];
    const upload = make();
    expect(await finish(upload)).toMatchObject({ phase: 'failed', error: { code } });
    expect((await finish(upload)).phase).toBe('whole');
  });

  it('fails with what refuses its dataset', async () => {
    const refusing = make(SHORT, {
      onBegun: () => Promise.reject(Object.assign(noAnswer(), { status: 422, code: 'invalid_request' })),
    });
    expect(await finish(refusing)).toMatchObject({ phase: 'failed', error: { code: 'invalid_request' } });
  });

  it('goes on after the key was asked for', async () => {
    yard.faults = [() => refused(401, 'unauthenticated')];
    expect((await finish(make(SHORT, { askForKey: () => Promise.resolve(true) }))).phase).toBe('whole');
  });

  it('goes in small pieces through a proxy that refuses large ones', async () => {
    const largest = 1024 * 1024;
    const { line } = yard;
    yard.line = (request) =>
      (request.body?.size ?? 0) > largest
        ? Promise.resolve(answered(413, {}, '<h1>nginx</h1>'))
        : line(request);
    expect((await finish(make(CONTENT.slice(0, 3 * largest)))).phase).toBe('whole');
  });

  it('that is locked for ever gives up', async () => {
    yard.faults = Array.from({ length: 50 }, () => () => refused(423, 'upload_locked'));
    expect(await finish(make())).toMatchObject({ phase: 'failed', error: { code: 'upload_locked' } });
  });

  it('is forgotten when it is cancelled', async () => {
    const upload = make(CONTENT);
    yard.faults = [() => null, () => (upload.cancel(), null)];
    expect((await finish(upload)).phase).toBe('cancelled');
    expect(remembered.size).toBe(0);
  });
});
