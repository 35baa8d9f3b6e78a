import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

/** Linear red, green, blue. */
type Colour = [number, number, number];

const css = readFileSync(new URL('../src/styles/tokens.css', import.meta.url), 'utf8');

function token(name: string, theme: 'light' | 'dark'): Colour {
  const found = css.match(new RegExp(`--${name}: light-dark\\((#\\w{6}), (#\\w{6})\\)`));
  const text = found![theme === 'light' ? 1 : 2]!;
  return [1, 3, 5].map((at) => {
    const value = parseInt(text.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Colour;
}

const apply = (matrix: Colour[], [r, g, b]: Colour): Colour =>
  matrix.map(([x, y, z]) => Math.min(1, Math.max(0, x * r + y * g + z * b))) as Colour;

/** How the three kinds of colour-blindness see, at full strength (Machado, Oliveira, Fernandes 2009). */
const SIGHTS: Record<string, Colour[]> = {
  common: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protan: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deutan: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritan: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** CIE Lab of linear sRGB, white D65. */
function lab(colour: Colour): Colour {
  const [x, y, z] = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.072175],
    [0.0193339, 0.119192, 0.9503041],
  ].map((row, index) => {
    const sum = row[0]! * colour[0] + row[1]! * colour[1] + row[2]! * colour[2];
    const t = sum / [0.95047, 1, 1.08883][index]!;
    return t > 216 / 24389 ? Math.cbrt(t) : (24389 / 27 / 116) * t + 16 / 116;
  }) as Colour;
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const apart = (one: Colour, other: Colour): number => {
  const [a, b] = [lab(one), lab(other)];
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
};

function contrast(one: Colour, other: Colour): number {
  const light = ([r, g, b]: Colour): number => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b) as [number, number];
  return (bright + 0.05) / (dark + 0.05);
}

describe.each(['light', 'dark'] as const)('in the %s theme', (theme) => {
  const ground = ['ground', 'card', 'sunk', 'selected'].map((name) => token(name, theme));

  it.each(['text', 'dim', 'accent', 'good', 'warn', 'bad'])('%s can be read on every ground', (name) => {
    for (const below of ground) expect(contrast(token(name, theme), below)).toBeGreaterThanOrEqual(4.5);
  });

  it('what stands on the accent can be read', () => {
    expect(contrast(token('on-accent', theme), token('accent', theme))).toBeGreaterThanOrEqual(4.5);
  });

  it('borders of controls and lines of charts can be seen', () => {
    expect(contrast(token('control', theme), token('card', theme))).toBeGreaterThanOrEqual(3);
    for (let n = 1; n <= 8; n += 1) {
      expect(
        contrast(token(`series-${n}`, theme), token('card', theme)),
        `series ${n}`,
      ).toBeGreaterThanOrEqual(3);
    }
  });

  it.each(Object.keys(SIGHTS))('series are told apart in %s sight', (sight) => {
    const seen = Array.from({ length: 8 }, (_, n) => apply(SIGHTS[sight]!, token(`series-${n + 1}`, theme)));
    const closest = (count: number): number =>
      Math.min(
        ...seen
          .slice(0, count)
          .flatMap((one, at) => seen.slice(at + 1, count).map((other) => apart(one, other))),
      );
    expect(closest(4)).toBeGreaterThanOrEqual(26);
    expect(closest(6)).toBeGreaterThanOrEqual(15);
    expect(closest(8)).toBeGreaterThanOrEqual(12);
  });
});
