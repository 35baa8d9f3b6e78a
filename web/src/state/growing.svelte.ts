/** What grows while a job runs: it is read once, and then only what is new in it. */
export abstract class Growing {
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #reading: Promise<void> | null = null;
  #again = false;

  constructor(readonly job: string) {}

  /** Reads what is new; one request at a time, and once more for those who asked meanwhile. */
  follow(): Promise<void> {
    this.#again = true;
    this.#reading ??= this.#readAll();
    return this.#reading;
  }

  /** Reads what is new now. */
  protected abstract read(): Promise<void>;

  async #readAll(): Promise<void> {
    try {
      while (this.#again) {
        this.#again = false;
        await this.read();
      }
      this.error = null;
    } catch (error) {
      this.error = error;
    } finally {
      this.#reading = null;
      this.loaded = true;
    }
  }
}
