import { describe, expect, it } from 'vitest';
import { FORGOTTEN_AFTER_S, Hub, type OpenStream } from '../../src/live/hub';
import type { Line, ToPage } from '../../src/live/messages';

class Page {
  readonly told: ToPage[] = [];
  postMessage = (message: ToPage): void => void this.told.push(message);
}

function makeHub() {
  const streams: { url: string; tell: Parameters<OpenStream>[1]; closed: boolean; woken: number }[] = [];
  const hub = new Hub((url, tell) => {
    const stream = { url, tell, closed: false, woken: 0 };
    streams.push(stream);
    return {
      line: 'open' as Line,
      now: () => void (stream.woken += 1),
      close: () => void (stream.closed = true),
    };
  });
  return { hub, streams };
}
const hello = { type: 'hello', url: 'http://yard/events' } as const;

describe('a hub', () => {
  it('feeds all pages from one stream', () => {
    const { hub, streams } = makeHub();
    const pages = Array.from({ length: 9 }, () => new Page());
    for (const page of pages) hub.take(page, hello);
    expect(streams.map(({ url }) => url)).toEqual(['http://yard/events']);
    streams[0]!.tell.change({ kind: 'gone', data: { job: 'job_1' } });
    for (const page of pages) {
      expect(page.told).toEqual([
        { type: 'line', line: 'open' },
        { type: 'change', change: { kind: 'gone', data: { job: 'job_1' } } },
      ]);
    }
  });

  it('closes the stream when the last page has gone, and opens another for the next', () => {
    const { hub, streams } = makeHub();
    const [one, other] = [new Page(), new Page()];
    hub.take(one, hello);
    hub.take(other, hello);
    hub.take(one, { type: 'bye' });
    expect(streams[0]!.closed).toBe(false);
    hub.take(other, { type: 'bye' });
    expect(streams[0]!.closed).toBe(true);
    hub.take(one, hello);
    expect(streams).toHaveLength(2);
  });

  it('forgets a page that ended without a word', () => {
    const { hub, streams } = makeHub();
    const [gone, here] = [new Page(), new Page()];
    hub.take(gone, hello, 0);
    hub.take(here, hello, 0);
    hub.take(here, { type: 'here' }, FORGOTTEN_AFTER_S * 1000 + 1);
    streams[0]!.tell.line('lost');
    expect(here.told).toHaveLength(2);
    expect(gone.told).toHaveLength(1);
  });

  it('wakes the stream when a page asks for it', () => {
    const { hub, streams } = makeHub();
    const page = new Page();
    hub.take(page, hello);
    hub.take(page, { type: 'now' });
    expect(streams[0]!.woken).toBe(1);
  });
});
