/// <reference lib="webworker" />
/** The worker that all tabs of a browser share: it holds the one stream. Browsers allow six connections to a yard. */

import { Hub } from './hub';
import type { ToWorker } from './messages';

const hub = new Hub();

(self as unknown as SharedWorkerGlobalScope).onconnect = ({ ports: [port] }) => {
  port!.onmessage = ({ data }: MessageEvent<ToWorker>) => hub.take(port!, data);
};
