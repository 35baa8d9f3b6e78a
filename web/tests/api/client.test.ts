import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError, createApi, newKey, onUnauthenticated, post, url, yardNow } from '../../src/api/client';

const REFUSED = {
  error: { type: 't', code: 'unauthenticated', message: 'A key is needed.', param: null, request_id: 'r' },
};
const api = createApi('http://yard.test/user/x/proxy/8000');

let asked: Request[];
let answers: (() => Response)[];

function answer(body: unknown, init: ResponseInit = {}): () => Response {
  return () => new Response(JSON.stringify(body), init);
}

beforeEach(() => {
  asked = [];
  answers = [];
  vi.stubGlobal('document', { baseURI: 'http://yard.test/user/x/proxy/8000/#/jobs' });
  vi.stubGlobal('fetch', (request: Request) => {
    asked.push(request);
    const next = answers.shift();
    return next === undefined ? Promise.reject(new TypeError('Failed to fetch')) : Promise.resolve(next());
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  onUnauthenticated(() => Promise.resolve(false));
});

describe('a request', () => {
  it('goes to the prefix that the page came from', async () => {
    answers = [answer({ id: 'job_1' })];
    const { data } = await api.GET('/jobs/{job_id}', { params: { path: { job_id: 'job_1' } } });
    expect(asked[0]?.url).toBe('http://yard.test/user/x/proxy/8000/jobs/job_1');
    expect(data.id).toBe('job_1');
  });

  it('that is refused throws the refusal', async () => {
    answers = [answer({ error: { code: 'job_not_found', message: 'There is no job_1.' } }, { status: 404 })];
    const asking = api.GET('/jobs/{job_id}', { params: { path: { job_id: 'job_1' } } });
    await expect(asking).rejects.toMatchObject({
      status: 404,
      code: 'job_not_found',
      message: 'There is no job_1.',
    });
  });

  it('without an answer says so', async () => {
    await expect(api.GET('/recipes')).rejects.toMatchObject({ status: 0, code: 'no_answer' });
  });

  it('that was given up on is not an answer that is missing', async () => {
    const stop = new AbortController();
    stop.abort();
    const asking = api.GET('/recipes', { signal: stop.signal });
    await expect(asking).rejects.not.toBeInstanceOf(ApiError);
  });

  it('with If-None-Match may be answered by 304', async () => {
    answers = [() => new Response(null, { status: 304 })];
    const { response } = await api.GET('/recipes', { headers: { 'If-None-Match': '"x"' } });
    expect(response.status).toBe(304);
  });
});

describe('a yard that wants a key', () => {
  it('gets a read again after the dialog', async () => {
    const ask = vi.fn(() => Promise.resolve(true));
    onUnauthenticated(ask);
    answers = [answer(REFUSED, { status: 401 }), answer({ object: 'list', data: [] })];
    const { data } = await api.GET('/jobs');
    expect(data.data).toEqual([]);
    expect(asked).toHaveLength(2);
    expect(ask).toHaveBeenCalledOnce();
  });

  it('does not get a write again: it asks, and the user decides', async () => {
    const ask = vi.fn(() => Promise.resolve(true));
    onUnauthenticated(ask);
    answers = [answer(REFUSED, { status: 401 })];
    await expect(post('/predict', new Blob(['x']))).rejects.toMatchObject({ status: 401 });
    expect(asked).toHaveLength(1);
    expect(ask).toHaveBeenCalledOnce();
  });

  it('refuses where the dialog was closed', async () => {
    answers = [answer(REFUSED, { status: 401 })];
    await expect(api.GET('/jobs')).rejects.toMatchObject({ code: 'unauthenticated' });
  });
});

describe('the yard’s time', () => {
  it('is that of its answers where the clock here is wrong', async () => {
    const hourAgo = new Date(Date.now() - 3_600_000).toUTCString();
    answers = [answer({ data: [] }, { headers: { Date: hourAgo } })];
    await api.GET('/recipes');
    expect(Math.abs(yardNow() - (Date.now() - 3_600_000))).toBeLessThan(2000);
  });
});

it('an address leaves empty parameters out', () => {
  expect(url('/datasets/ds_1/sprite', { split: 'train', label: null, page: 0 })).toBe(
    'http://yard.test/user/x/proxy/8000/datasets/ds_1/sprite?split=train&page=0',
  );
});

it('a key for a repetition is new each time', () => {
  expect(newKey()).toMatch(/^[0-9a-f]{32}$/);
  expect(newKey()).not.toBe(newKey());
});
