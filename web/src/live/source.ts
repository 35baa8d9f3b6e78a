/** Where a page's changes come from: the worker that all tabs share, or, without such workers, a stream of its own. */

import workerUrl from './worker.ts?sharedworker&url';
import { url } from '../api/client';
import type { ToPage, ToWorker } from './messages';
import { EventStream } from './stream';

const HERE_EVERY_S = 30;

export interface Source {
  /** Tries again at once, where the line is lost. */
  now: () => void;
}

/** Connects this page to the changes of the yard. */
export function connect(take: (message: ToPage) => void): Source {
  return typeof SharedWorker === 'undefined' ? ownStream(take) : sharedStream(take);
}

function sharedStream(take: (message: ToPage) => void): Source {
  const worker = new SharedWorker(trusted(workerUrl), { type: 'module', name: 'trainyard' });
  const tell = (message: ToWorker): void => worker.port.postMessage(message);
  worker.port.onmessage = ({ data }: MessageEvent<ToPage>) => take(data);
  tell({ type: 'hello', url: url('/events') });
  setInterval(() => tell({ type: 'here' }), HERE_EVERY_S * 1000);
  window.addEventListener('pagehide', () => tell({ type: 'bye' }));
  window.addEventListener('pageshow', ({ persisted }) => {
    if (!persisted) return; // a page that comes back as it was has missed what happened
    tell({ type: 'hello', url: url('/events') });
    take({ type: 'change', change: { kind: 'reset', data: {} } });
  });
  return { now: () => tell({ type: 'now' }) };
}

/** A stream of this tab alone, closed while nobody looks; what happens meanwhile is read anew. */
function ownStream(take: (message: ToPage) => void): Source {
  let stream: EventStream | null = null;
  const open = (): void => {
    stream ??= new EventStream(url('/events'), {
      change: (change) => take({ type: 'change', change }),
      line: (line) => take({ type: 'line', line }),
    });
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      stream?.close();
      stream = null;
    } else {
      open();
      take({ type: 'change', change: { kind: 'reset', data: {} } });
    }
  });
  open();
  return { now: () => stream?.now() };
}

/** The worker's address, vouched for: the policy lets no other script become a worker. */
function trusted(address: string): string | URL {
  const { trustedTypes } = window as { trustedTypes?: TrustedTypePolicyFactory };
  if (trustedTypes === undefined) return address;
  const policy = trustedTypes.createPolicy('trainyard-worker', {
    createScriptURL: (candidate) => {
      if (candidate === workerUrl) return candidate;
      throw new TypeError('not the worker of this page');
    },
  });
  return policy.createScriptURL(address) as unknown as URL;
}

interface TrustedTypePolicyFactory {
  createPolicy(
    name: string,
    rules: { createScriptURL: (candidate: string) => string },
  ): { createScriptURL: (candidate: string) => object };
}
