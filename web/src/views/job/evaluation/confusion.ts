/** A confusion matrix as it is looked at: ordered, with or without what is right, as counts or shares of a row. */

export interface Confusion {
  labels: string[];
  /** Images by true class (row) and predicted class (column), in the order of `labels`. */
  counts: number[][];
}

/** A single mistake among many images is still seen. */
const FAINTEST = 0.14;

/**
 * Returns how much of the accent a cell has, in percent, and whether its text then stands on the accent. Between the
 * two ranges neither text would be told from its ground well enough.
 */
export function tintOf(strength: number): { percent: number; strong: boolean } {
  if (strength <= 0.5) return { percent: Math.round(strength * 110), strong: false };
  return { percent: Math.round(88 + (strength - 0.5) * 24), strong: true };
}

export type Order = 'name' | 'confusion';

/** Returns the matrix with the most confused classes first, or as it is. */
export function ordered({ labels, counts }: Confusion, order: Order): Confusion {
  if (order === 'name') return { labels, counts };
  const wrong = labels.map((_, i) => wrongIn(counts, i));
  const places = labels.map((_, i) => i).sort((a, b) => wrong[b]! - wrong[a]! || a - b);
  return {
    labels: places.map((i) => labels[i]!),
    counts: places.map((i) => places.map((j) => counts[i]![j]!)),
  };
}

/** Returns how many images of a class were taken for another, or others for it. */
function wrongIn(counts: number[][], i: number): number {
  return counts.reduce((sum, row, j) => (j === i ? sum : sum + row[i]! + counts[i]![j]!), 0);
}

/** Returns the share of its row's images that each cell has; 0 in a row without images. */
export function shares(counts: number[][]): number[][] {
  return counts.map((row) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return row.map((count) => (total === 0 ? 0 : count / total));
  });
}

/**
 * Returns how strongly each cell is coloured, 0 to 1: its share of the row, or without the diagonal its count out of the
 * largest mistake.
 */
export function strengths(counts: number[][], diagonal: boolean): number[][] {
  if (diagonal) {
    return shares(counts).map((row, i) =>
      row.map((share, j) => (i === j || share === 0 ? share : Math.max(share, FAINTEST))),
    );
  }
  const largest = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => j !== i)));
  return counts.map((row, i) => row.map((count, j) => (i === j ? 0 : count / largest)));
}
