import { describe, expect, it } from 'vitest';
import { changed, href, parse } from '../src/routes';

const seen = (hash: string) => {
  const { view, params, query } = parse(hash);
  return { view, params, query: query.toString() };
};

describe('parse', () => {
  it.each([
    ['', 'jobs', {}],
    ['#/', 'jobs', {}],
    ['#/jobs', 'jobs', {}],
    ['#/jobs/job_1', 'job', { id: 'job_1' }],
    ['#/jobs/job_1/evaluation', 'job', { id: 'job_1', tab: 'evaluation' }],
    ['#/datasets/fashion%20mnist', 'dataset', { id: 'fashion mnist' }],
    ['#/yard', 'yard', {}],
    ['#/nonsense', 'jobs', {}],
    ['#/yard/nonsense', 'jobs', {}],
    ['#/jobs/%E0%A4', 'job', { id: '%E0%A4' }],
  ])('reads %s', (hash, view, params) => {
    expect(seen(hash)).toEqual({ view, params, query: '' });
  });

  it('reads the query, with repeated values', () => {
    const { query } = parse('#/jobs?state=running&state=queued&q=a%26b');
    expect(query.getAll('state')).toEqual(['running', 'queued']);
    expect(query.get('q')).toBe('a&b');
  });
});

describe('href', () => {
  it.each([
    ['#/jobs', href('jobs')],
    ['#/jobs/job_1/log', href('job', { id: 'job_1', tab: 'log' })],
    ['#/datasets/a%2Fb', href('dataset', { id: 'a/b' })],
    ['#/compare?jobs=a&jobs=b', href('compare', {}, { jobs: ['a', 'b'], q: '', x: null, y: undefined })],
    ['#/jobs?n=0', href('jobs', {}, { n: 0 })],
  ])('writes %s', (expected, written) => {
    expect(written).toBe(expected);
  });

  it('writes what parse reads', () => {
    const address = href('job', { id: 'job 1/2?#', tab: 'curves' }, { smooth: '.6', x: 'ü&=' });
    expect(seen(address)).toEqual({
      view: 'job',
      params: { id: 'job 1/2?#', tab: 'curves' },
      query: new URLSearchParams({ smooth: '.6', x: 'ü&=' }).toString(),
    });
  });
});

it('changes some values of a query and leaves the rest', () => {
  const query = new URLSearchParams('a=1&b=2&b=3');
  expect(changed(query, { b: '4', c: ['5', '6'], a: null }).toString()).toBe('b=4&c=5&c=6');
  expect(query.toString()).toBe('a=1&b=2&b=3');
});
