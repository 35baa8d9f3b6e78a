/** Asks again when there is something new: one question at a time, and once more if something came meanwhile. */
export class Follower {
  readonly #ask: () => Promise<void>;
  #asking = false;
  #again = false;
  #over = false;

  constructor(ask: () => Promise<void>) {
    this.#ask = ask;
  }

  /** Says that there is something new. */
  tell(): void {
    this.#again = true;
    if (!this.#asking) void this.#run();
  }

  stop(): void {
    this.#over = true;
  }

  async #run(): Promise<void> {
    this.#asking = true;
    while (this.#again && !this.#over) {
      this.#again = false;
      await this.#ask();
    }
    this.#asking = false;
  }
}
