import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Answers } from '../../src/views/predict/answers.svelte';
import { Follower } from '../../src/views/predict/follower';
import { choicesOf, followed, type KnownJob } from '../../src/views/predict/models';
import { inRequests, picturesIn, type Picture } from '../../src/views/predict/pictures';
import { firstEpochS, sayFirstEpoch, type Waited } from '../../src/views/predict/waiting';

function picture(id: number, size = 10): Picture {
  return { id, name: `${id}.png`, blob: new Blob(['x'.repeat(size)]), url: '', truth: null };
}

function job(id: string, fields: Partial<KnownJob> = {}): [string, KnownJob] {
  return [id, { id, name: null, created_at: '2026-11-30T04:00:00Z', latest_checkpoint: 'ckpt_1', ...fields }];
}

describe('what can be asked', () => {
  const jobs = new Map([
    job('job_old', { name: 'base' }),
    job('job_new', { created_at: '2026-11-30T05:00:00Z' }),
    job('job_waits', { latest_checkpoint: null }),
  ]);

  it('is latest, and each job that has a checkpoint, the newest first', () => {
    const groups = choicesOf(jobs, [], 'latest');
    expect(groups.map(({ title }) => title)).toEqual(['Newest', 'Jobs']);
    expect(groups[1]!.choices.map(({ value }) => value)).toEqual([
      'job_new',
      'job_new@latest',
      'job_old',
      'job_old@latest',
    ]);
  });

  it.each(['ckpt_01m8nb8c7k1zqxr8c2py8knq5p', 'job_old@epoch-3', 'production', 'job_waits'])(
    'has %s among it when an address names it',
    (chosen) => {
      const values = choicesOf(jobs, [], chosen).flatMap(({ choices }) => choices.map(({ value }) => value));
      expect(values).toContain(chosen);
    },
  );

  it.each([
    ['latest', 'latest'],
    ['job_1', 'job_1@latest'],
    ['job_1@epoch-3', 'job_1@latest'],
    ['ckpt_1', null],
    ['production', null],
  ])('%s is followed as %s', (model, as) => {
    expect(followed(model)).toBe(as);
  });
});

describe('pictures', () => {
  it('are told from other files by type or name', () => {
    const files = [
      new File([''], 'a', { type: 'image/png' }),
      new File([''], 'b.HEIC'),
      new File([''], 'c.txt', { type: 'text/plain' }),
    ];
    expect(picturesIn(files).map(({ name }) => name)).toEqual(['a', 'b.HEIC']);
  });

  it('go in requests of a bounded number and size', () => {
    const sizes = (pictures: Picture[]) =>
      inRequests(pictures, 3, 100).map((some) => some.map(({ id }) => id));
    expect(sizes([1, 2, 3, 4].map((id) => picture(id)))).toEqual([[1, 2, 3], [4]]);
    expect(sizes([picture(1, 60), picture(2, 60), picture(3, 500), picture(4, 1)])).toEqual([
      [1],
      [2],
      [3],
      [4],
    ]);
  });
});

describe('answers', () => {
  let asked: { url: string; names: string[] }[];
  let epoch: number;

  beforeEach(() => {
    asked = [];
    epoch = 1;
    vi.stubGlobal('document', { baseURI: 'http://yard.test/' });
    vi.stubGlobal('fetch', async (request: Request) => {
      const files = (await request.formData()).getAll('file') as File[];
      asked.push({ url: request.url, names: files.map(({ name }) => name) });
      const model = { checkpoint: `ckpt_${epoch}`, job: 'job_1', epoch, weights_sha256: '', alias: null };
      const predictions = ['9', '4', '7', '0', '1', '2'].map((label, index) => ({
        label,
        index,
        probability: 1 / (index + 2),
      }));
      const timing = { total_ms: 8 };
      const results = files.map(({ name }) =>
        name === '2.png'
          ? {
              filename: name,
              predictions: null,
              error: { code: 'image_unreadable', message: 'It is damaged.' },
            }
          : { filename: name, predictions, error: null },
      );
      return new Response(
        JSON.stringify(files.length === 1 ? { model, predictions, timing } : { model, results, timing }),
      );
    });
  });
  afterEach(() => vi.unstubAllGlobals());

  it('to one picture are its five most probable classes, and who answered', async () => {
    const answers = new Answers();
    await answers.ask([picture(1)], 'job_1@latest');
    expect(asked[0]?.url).toBe('http://yard.test/predict?model=job_1%40latest&top_k=100');
    expect(answers.of.get(1)).toMatchObject({ model: { checkpoint: 'ckpt_1' }, totalMs: 8 });
    expect(answers.of.get(1)?.predictions.map(({ label }) => label)).toEqual(['9', '4', '7', '0', '1']);
  });

  it('to a followed picture gain a column with each epoch, and none twice', async () => {
    const answers = new Answers();
    for (epoch of [1, 2, 2, 3]) await answers.ask([picture(1)], 'latest');
    expect(answers.columns.map((column) => column.epoch)).toEqual([1, 2, 3]);
    expect(answers.columns[0]?.probabilities.get('2')).toBe(1 / 7);
    answers.forgetColumns();
    expect(answers.columns).toEqual([]);
  });

  it('to several pictures stand at each, and so do errors', async () => {
    const answers = new Answers();
    await answers.ask([picture(1), picture(2), picture(3)], 'latest');
    expect(asked.map(({ names }) => names)).toEqual([['1.png', '2.png', '3.png']]);
    expect([...answers.of.keys()]).toEqual([1, 3]);
    expect(answers.errors.get(2)).toMatchObject({ code: 'image_unreadable' });
  });

  it('that are refused are an error of all', async () => {
    vi.stubGlobal('fetch', async () =>
      Promise.resolve(
        new Response(JSON.stringify({ error: { code: 'no_checkpoint', message: 'None.' } }), { status: 503 }),
      ),
    );
    const answers = new Answers();
    await answers.ask([picture(1)], 'latest');
    expect(answers.error).toMatchObject({ code: 'no_checkpoint' });
    expect(answers.busy).toBe(false);
  });
});

it('a follower asks one question at a time, and once more for all that came meanwhile', async () => {
  const done: (() => void)[] = [];
  const ask = vi.fn(() => new Promise<void>((resolve) => done.push(resolve)));
  const follower = new Follower(ask);
  for (let time = 0; time < 5; time++) follower.tell();
  expect(ask).toHaveBeenCalledTimes(1);
  done.shift()!();
  await vi.waitFor(() => expect(ask).toHaveBeenCalledTimes(2));
  follower.stop();
  follower.tell();
  done.shift()!();
  await new Promise((resolve) => setTimeout(resolve));
  expect(ask).toHaveBeenCalledTimes(2);
});

describe('while no checkpoint can answer', () => {
  const running: Waited = {
    state: 'running',
    state_reason: 'training',
    progress: { epochs: 10, fraction: 0.05, eta_s: 190 },
  };

  it('the first epoch’s end comes from the job’s progress', () => {
    expect(firstEpochS(running)).toBeCloseTo(10);
    expect(sayFirstEpoch(running, []).when).toBe('First answer in about 10 s.');
  });

  it('a job that waits says for what', () => {
    const queued: Waited = { ...running, state: 'queued', waiting_for: 'a_free_slot', queue_position: 2 };
    expect(sayFirstEpoch(queued, []).when).toBe('The job is queued: place 2, waits for a free slot.');
  });

  it('a yard without jobs says what to do', () => {
    expect(sayFirstEpoch(undefined, [])).toMatchObject({ start: true });
  });
});
