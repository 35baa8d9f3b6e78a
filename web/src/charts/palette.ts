/**
 * The colours and dashes of lines.
 *
 * The eight colours are tokens of `styles/tokens.css`, in light and dark. The first four can be told apart by
 * everybody; from the fifth on a line has a dash too, and every line has its name at its end.
 */

export interface LineLook {
  /** Its place in the palette, from 0. */
  colour: number;
  /** Lengths of line and gap in pixels; empty: a plain line. */
  dash: readonly number[];
}

const NUM_COLOURS = 8;
/** So many lines are told apart by their colour alone. */
const NUM_PLAIN = 4;
/** In the order in which lines take them. */
const DASHES: readonly (readonly number[])[] = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

/** Returns the look of the n-th line of a chart, from 0. No two of the first 28 look alike. */
export function lineLook(n: number): LineLook {
  const colour = n % NUM_COLOURS;
  const turn = Math.floor(n / NUM_COLOURS) + (colour < NUM_PLAIN ? 0 : 1);
  return { colour, dash: DASHES[turn % DASHES.length]! };
}

/** Returns the name of the custom property that has a colour of the palette. */
export function colourToken(colour: number): string {
  return `--series-${(colour % NUM_COLOURS) + 1}`;
}

/** The look of a job's own series, in every chart. */
export const JOB_LOOKS = {
  train_loss: { colour: 0, dash: [] },
  val_loss: { colour: 1, dash: [7, 4] },
  val_top1: { colour: 2, dash: [] },
  val_top5: { colour: 3, dash: [7, 4] },
  images_per_s: { colour: 4, dash: [] },
  lr: { colour: 7, dash: [] },
} as const satisfies Record<string, LineLook>;

/** Remembers which job has which look, so that a job keeps its colour when others come and go. */
export class Looks {
  readonly #places = new Map<string, number>();

  /** Gives each of these ids its look: one that had one keeps it, and the others get the first that are free. */
  assign(ids: readonly string[]): Map<string, LineLook> {
    for (const id of [...this.#places.keys()]) if (!ids.includes(id)) this.#places.delete(id);
    const taken = new Set(this.#places.values());
    for (const id of ids) {
      if (this.#places.has(id)) continue;
      let place = 0;
      while (taken.has(place)) place += 1;
      taken.add(place);
      this.#places.set(id, place);
    }
    return new Map(ids.map((id) => [id, lineLook(this.#places.get(id)!)]));
  }
}
