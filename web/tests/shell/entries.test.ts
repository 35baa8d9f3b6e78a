import { expect, it } from 'vitest';
import { entryOfJob, find, type Entry } from '../../src/shell/entries';

const entry = (text: string, note = 'view'): Entry => ({ text, note, icon: 'jobs', act: () => undefined });
const texts = (entries: Entry[]) => entries.map(({ text }) => text);

it('finds what contains each word, in any order and case, in the text or the note', () => {
  const all = [entry('night run 3', 'job, running'), entry('night run 4', 'job, failed'), entry('Jobs')];
  expect(texts(find(all, 'RUN night', 9))).toEqual(['night run 3', 'night run 4']);
  expect(texts(find(all, 'night failed', 9))).toEqual(['night run 4']);
  expect(find(all, 'day', 9)).toEqual([]);
});

it('puts first what begins with what was typed, and gives no more than asked for', () => {
  const all = [entry('old job'), entry('job 1'), entry('job 2'), entry('job 3')];
  expect(texts(find(all, 'job', 3))).toEqual(['job 1', 'job 2', 'job 3']);
  expect(texts(find(all, '', 2))).toEqual(['old job', 'job 1']);
});

it('calls a job without a name by the end of its id', () => {
  const job = { id: 'job_0123456789abcdef', name: null, state: 'running', dataset: 'ds_1' } as const;
  const opened: string[] = [];
  const made = entryOfJob(job, (id) => opened.push(id));
  made.act();
  expect(made.text).toBe('job abcdef');
  expect(opened).toEqual([job.id]);
});
