/** Stands in for the event stream on a yard without one: every few seconds everything in view is read anew. */

import type { ToPage } from './messages';
import type { Source } from './source';
import { whileVisible } from './visible';

const EVERY_MS = 5000;

export function poll(take: (message: ToPage) => void, ask: () => Promise<boolean>): Source {
  whileVisible(async () => {
    const answers = await ask();
    take({ type: 'line', line: answers ? 'open' : 'lost' });
    if (answers) take({ type: 'change', change: { kind: 'reset', data: {} } });
  }, EVERY_MS);
  return { now: () => undefined };
}
