/** What is read from the yard for a view: the data, or why there is none; the newest request wins. */
export class Loaded<T> {
  data = $state.raw<T | null>(null);
  error = $state.raw<unknown>(null);
  /** Whether a request is under way; what is there stays meanwhile. */
  busy = $state(false);
  #stop: AbortController | null = null;

  /** Reads it anew. An error takes the place of the data only where there is none, or the data is gone. */
  async load(ask: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.#stop?.abort();
    const stop = (this.#stop = new AbortController());
    this.busy = true;
    try {
      const data = await ask(stop.signal);
      if (stop.signal.aborted) return;
      this.data = data;
      this.error = null;
    } catch (error) {
      if (stop.signal.aborted) return;
      this.error = error;
    } finally {
      if (this.#stop === stop) this.busy = false;
    }
  }

  /** Gives up a request that is under way, as when the view closes. */
  stop(): void {
    this.#stop?.abort();
    this.busy = false;
  }
}
