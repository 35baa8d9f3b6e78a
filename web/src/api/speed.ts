/** How fast bytes go, by the last seconds: a mean of the whole would not show a line that got slow. */

const WINDOW_MS = 6000;

export class Speed {
  #seen: { at: number; bytes: number }[] = [];

  /** Notes that so many bytes have gone in all; fewer than before starts anew, as after a cut. */
  note(bytes: number, at: number): void {
    const last = this.#seen.at(-1);
    if (last !== undefined && bytes < last.bytes) this.#seen = [];
    this.#seen.push({ at, bytes });
    while (this.#seen.length > 2 && at - this.#seen[1]!.at >= WINDOW_MS) this.#seen.shift();
  }

  /** Forgets what it saw: nothing goes right now. */
  reset(): void {
    this.#seen = [];
  }

  /** Bytes a second; null until half a second was seen. */
  get bytesPerS(): number | null {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    if (first === undefined || last === undefined || last.at - first.at < 500) return null;
    return ((last.bytes - first.bytes) / (last.at - first.at)) * 1000;
  }
}
