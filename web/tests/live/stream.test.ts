import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Change, Line } from '../../src/live/messages';
import { EventStream, SILENCE_S } from '../../src/live/stream';

/** A yard whose answers the test writes. */
class Yard {
  readonly asked: Record<string, string>[] = [];
  readonly changes: Change[] = [];
  readonly lines: Line[] = [];
  answers: (() => Response | Promise<Response>)[] = [];
  body: ReadableStreamDefaultController<Uint8Array> | null = null;

  readonly fetch = async (_url: string, init: RequestInit): Promise<Response> => {
    this.asked.push(init.headers as Record<string, string>);
    const next = this.answers.shift() ?? (() => this.stream());
    const response = await next();
    init.signal?.addEventListener('abort', () => {
      try {
        this.body?.error(new DOMException('aborted', 'AbortError'));
      } catch {
        // it has ended
      }
    });
    return response;
  };

  stream(): Response {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (this.body = controller) });
    return new Response(body, { status: 200 });
  }

  send(text: string): void {
    this.body!.enqueue(new TextEncoder().encode(text));
  }

  follow(): EventStream {
    return new EventStream(
      'http://yard/events',
      { change: (change) => this.changes.push(change), line: (line) => this.lines.push(line) },
      { fetch: this.fetch, now: () => Date.now() },
    );
  }
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
let yard: Yard;
let stream: EventStream;

beforeEach(() => {
  vi.useFakeTimers();
  yard = new Yard();
});
afterEach(() => {
  stream.close();
  vi.useRealTimers();
});

describe('a stream', () => {
  it('tells each event once, in order, also one that arrives in two parts', async () => {
    stream = yard.follow();
    await pass(0);
    yard.send('id: 7\nevent: job\ndata: {"id": "job_1"}\n\nid: 8\nevent: go');
    yard.send('ne\ndata: {"job": "job_1"}\n\n: a comment\n\nevent: unheard_of\ndata: {}\n\n');
    await pass(0);
    expect(yard.changes).toEqual([
      { kind: 'job', data: { id: 'job_1' } },
      { kind: 'gone', data: { job: 'job_1' } },
    ]);
    expect(yard.lines).toEqual(['open']);
  });

  it('goes on behind the last event that it told', async () => {
    stream = yard.follow();
    await pass(0);
    yard.send('id: 7\nevent: job\ndata: {}\n\nevent: tick\ndata: {}\n\n');
    await pass(0);
    yard.body!.close();
    await pass(1500);
    expect(yard.asked.map((headers) => headers['Last-Event-ID'])).toEqual([undefined, '7']);
    expect(yard.lines).toEqual(['open', 'lost', 'open']);
  });

  it('takes a line on which nothing comes for dead', async () => {
    stream = yard.follow();
    await pass(0);
    await pass(SILENCE_S * 1000 - 1);
    expect(yard.lines).toEqual(['open']);
    await pass(1);
    expect(yard.lines).toEqual(['open', 'lost']);
    await pass(1500);
    expect(yard.asked).toHaveLength(2);
  });

  it('lives as long as something comes', async () => {
    stream = yard.follow();
    await pass(0);
    for (let n = 0; n < 10; n += 1) {
      await pass(SILENCE_S * 900);
      yard.send('event: tick\ndata: {}\n\n');
    }
    await pass(0);
    expect(yard.lines).toEqual(['open']);
    expect(yard.asked).toHaveLength(1);
  });

  it('comes back within four seconds for as long as a restart may take, and more rarely afterwards', async () => {
    yard.answers = Array.from({ length: 1000 }, () => () => Promise.reject(new TypeError('refused')));
    stream = yard.follow();
    await pass(60_000);
    const inAMinute = yard.asked.length;
    expect(inAMinute).toBeGreaterThanOrEqual(60 / 4);
    await pass(600_000);
    const before = yard.asked.length;
    await pass(60_000);
    expect(yard.asked.length - before).toBeLessThanOrEqual(4);
    expect(yard.lines).toEqual(['lost']);
  });

  it('comes back when the yard says so', async () => {
    yard.answers = [() => new Response('', { status: 503, headers: { 'Retry-After': '9' } })];
    stream = yard.follow();
    await pass(8900);
    expect(yard.asked).toHaveLength(1);
    await pass(200);
    expect(yard.asked).toHaveLength(2);
    expect(yard.lines).toEqual(['lost', 'open']);
  });

  it('waits for a key, and asks again once there is one', async () => {
    yard.answers = [() => new Response('', { status: 401 })];
    stream = yard.follow();
    await pass(3_600_000);
    expect(yard.asked).toHaveLength(1);
    expect(yard.lines).toEqual(['refused']);
    stream.now();
    await pass(0);
    expect(yard.asked).toHaveLength(2);
    expect(yard.lines).toEqual(['refused', 'open']);
  });

  it('begins anew after a reset', async () => {
    stream = yard.follow();
    await pass(0);
    yard.send('id: 7\nevent: job\ndata: {}\n\nevent: reset\ndata: {}\n\n');
    await pass(0);
    yard.body!.close();
    await pass(1500);
    expect(yard.asked.at(-1)!['Last-Event-ID']).toBeUndefined();
  });

  it('asks no more once it is closed', async () => {
    stream = yard.follow();
    await pass(0);
    stream.close();
    await pass(60_000);
    expect(yard.asked).toHaveLength(1);
    expect(yard.lines).toEqual(['open']);
  });
});
