/** How long a job will take, roughly: as exact as an estimate is. */

const UNITS: [seconds: number, name: string][] = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
  [1, 's'],
];

/** "3 to 5 min", "2 h to 2 d", "about 6 min". */
export function sayRange(low: number, high: number): string {
  const [from, to] = [rough(low), rough(high)];
  if (high < 1) return to.text;
  if (from.text === to.text) return `about ${to.text}`;
  return from.unit === to.unit ? `${from.number} to ${to.text}` : `${from.text} to ${to.text}`;
}

/** A time in one unit, of which there is more than one and a half. */
function rough(seconds: number): { number: string; unit: string; text: string } {
  const [size, unit] = UNITS.find(([one]) => seconds >= 1.5 * one) ?? [1, 's'];
  const value = seconds / size;
  const number = value < 1 ? 'under 1' : String(Math.round(value));
  return { number, unit, text: `${number} ${unit}` };
}
