import { describe, expect, it } from 'vitest';
import { ApiError, readRefusal, readRetryAfter } from '../../src/api/errors';

const BODY = {
  error: {
    type: 'invalid_request_error',
    code: 'config_invalid',
    message: 'epochs is 0: use 1 or more',
    param: 'overrides.epochs',
    request_id: 'req-12345678',
  },
};

describe('a refusal', () => {
  it('has the words of the API', async () => {
    const error = await readRefusal(new Response(JSON.stringify(BODY), { status: 422 }));
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({
      status: 422,
      code: 'config_invalid',
      message: 'epochs is 0: use 1 or more',
      param: 'overrides.epochs',
      requestId: 'req-12345678',
      retryAfterS: null,
      passing: false,
    });
  });

  it('of a proxy says that it is not the yard that refuses', async () => {
    const headers = { 'Retry-After': '7', 'X-Request-ID': 'abc' };
    const error = await readRefusal(new Response('<h1>Bad gateway</h1>', { status: 502, headers }));
    expect(error).toMatchObject({
      status: 502,
      code: 'not_the_yard',
      retryAfterS: 7,
      requestId: 'abc',
      passing: true,
    });
    expect(error.message).toContain('502');
  });

  it.each(['null', '[]', '{"error": 3}', '{"error": {"code": 1}}'])(
    'in the form %s is not the yard’s',
    async (body) => {
      expect((await readRefusal(new Response(body, { status: 400 }))).code).toBe('not_the_yard');
    },
  );
});

describe('Retry-After', () => {
  const now = Date.parse('Mon, 30 Nov 2026 04:00:00 GMT');

  it.each([
    ['5', 5],
    ['0', 0],
    ['-3', 0],
    ['Mon, 30 Nov 2026 04:00:10 GMT', 10],
    ['Mon, 30 Nov 2026 03:00:00 GMT', 0],
    ['soon', null],
    ['', null],
    [null, null],
  ])('%s means %s seconds', (value, seconds) => {
    expect(readRetryAfter(value, now)).toBe(seconds);
  });
});
