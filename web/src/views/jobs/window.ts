/** Which part of a long list is drawn: what can be seen, and some rows more on both sides. */

export interface Part {
  first: number;
  /** Behind the last one. */
  end: number;
  /** Heights in pixels that stand for the rows before and behind. */
  before: number;
  behind: number;
}

const MORE = 6;

/** Returns the part of `total` rows of one height that a box shows. */
export function partOf(total: number, row: number, scrolled: number, height: number): Part {
  const visible = Math.ceil(height / row) + 1;
  const first = Math.max(0, Math.min(Math.floor(scrolled / row) - MORE, total - visible));
  const end = Math.min(total, Math.max(0, Math.floor(scrolled / row)) + visible + MORE);
  return { first, end, before: first * row, behind: (total - end) * row };
}

/** Returns where a box must be scrolled to so that a row is seen whole, below a head of some height. */
export function scrollTo(index: number, row: number, scrolled: number, height: number, head: number): number {
  const top = index * row;
  if (top < scrolled) return top;
  const bottom = top + row - (height - head);
  return bottom > scrolled ? bottom : scrolled;
}
