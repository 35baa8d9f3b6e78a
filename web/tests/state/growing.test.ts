import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Events } from '../../src/state/events.svelte';
import { JobLog } from '../../src/state/log.svelte';
import { Series } from '../../src/state/series.svelte';

vi.hoisted(() => vi.stubGlobal('document', { baseURI: 'http://yard.test/' })); // where the client looks when it is made

/** The requests that wait for their answers, in the order in which they were made. */
let waiting: ((answer: Response) => void)[];

beforeEach(() => {
  waiting = [];
  vi.stubGlobal('fetch', () => new Promise<Response>((resolve) => waiting.push(resolve)));
});
afterEach(() => vi.unstubAllGlobals());

/** Answers the oldest request, once it was made. */
async function answer(body: string, init: ResponseInit = {}): Promise<void> {
  await vi.waitFor(() => expect(waiting).not.toHaveLength(0));
  waiting.shift()!(new Response(body, init));
}

const nothing = JSON.stringify({ data: [], has_more: false });
const metrics = JSON.stringify({ by_step: [], by_epoch: [], last_step: 3, thinned: false });

describe.each([
  { what: 'events', make: () => new Events('job_1'), body: nothing },
  { what: 'a log', make: () => new JobLog('job_1'), body: '' },
  { what: 'series', make: () => new Series('job_1'), body: metrics },
])('$what of a job', ({ make, body }) => {
  it('are read once more where they may have grown while they were read', async () => {
    const growing = make();
    const first = growing.follow();
    await vi.waitFor(() => expect(waiting).toHaveLength(1));
    void growing.follow(); // the job has ended meanwhile: the answer under way may be older than that
    void growing.follow();
    await answer(body);
    await answer(body);
    await first;
    expect(waiting).toHaveLength(0);
    expect(growing.loaded).toBe(true);
  });

  it('say what was refused until they are read', async () => {
    const growing = make();
    const refused = growing.follow();
    await answer('{"error": {"code": "not_ready", "message": "Not now."}}', { status: 503 });
    await refused;
    expect(growing.error).toMatchObject({ status: 503 });
    const read = growing.follow();
    await answer(body);
    await read;
    expect(growing.error).toBeNull();
  });
});
