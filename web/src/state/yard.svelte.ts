/** What this yard is: its version, its limits. */

import { send, url } from '../api/client';

export interface YardInfo {
  version: string;
  needs_key: boolean;
  limits: Record<string, number>;
}

class Yard {
  info = $state.raw<YardInfo | null>(null);
  /** Whether another version answers than the one that gave this page. */
  updated = $state(false);

  /** Reads what the yard is, and returns whether it answered; to be called again when the line to it was lost. */
  async load(): Promise<boolean> {
    try {
      const response = await send(new Request(url('/yard')));
      const info = (await response.json()) as YardInfo;
      this.updated ||= this.info !== null && this.info.version !== info.version;
      this.info ??= info;
      return true;
    } catch {
      return false; // the chip in the bar says that the yard does not answer
    }
  }
}

export const yard = new Yard();
