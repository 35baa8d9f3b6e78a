import { describe, expect, it } from 'vitest';
import {
  differences,
  readField,
  readOptions,
  sayBounds,
  show,
  type Option,
} from '../../src/views/new/options';

const SCHEMA = {
  properties: {
    widths: { type: 'array', description: 'Maps of the five convolutions.' },
    groups: { type: 'integer', enum: [1, 2] },
    pool5_px: {
      anyOf: [{ type: 'integer', minimum: 1, maximum: 16 }, { type: 'null' }],
      description: 'Side. None: as it is.',
    },
    image_px: { type: 'integer', minimum: 8, maximum: 512 },
    lr: { type: 'number', exclusiveMinimum: 0, maximum: 10 },
    dropout: { type: 'number', minimum: 0, exclusiveMaximum: 1 },
    flip: { type: 'boolean' },
  },
};
const OPTIONS = Object.fromEntries(readOptions(SCHEMA).map((option) => [option.name, option]));
const option = (name: string): Option => OPTIONS[name]!;

describe('an option', () => {
  it('stands in the group that began before it', () => {
    expect(readOptions(SCHEMA).map(({ group }) => group)).toEqual([
      'Network',
      'Network',
      'Network',
      'Input',
      'Input',
      'Input',
      'Augmentation',
    ]);
  });

  it('says what an empty field means', () => {
    expect(option('pool5_px').description).toBe('Side. Empty: as it is.');
  });

  it.each([
    ['image_px', '8 to 512'],
    ['lr', 'above 0, at most 10'],
    ['dropout', '0 or more, below 1'],
    ['pool5_px', '1 to 16, or empty'],
  ])('%s says its bounds: %s', (name, bounds) => {
    expect(sayBounds(option(name))).toBe(bounds);
  });
});

describe('a field', () => {
  it.each([
    ['image_px', '8', 8],
    ['image_px', ' 512 ', 512],
    ['lr', '1e-3', 0.001],
    ['lr', '10', 10],
    ['dropout', '0', 0],
    ['pool5_px', '', null],
    ['groups', '2', 2],
    ['flip', 'false', false],
    ['widths', '[1, 2]', [1, 2]],
    ['widths', '1, 2', [1, 2]],
  ])('of %s with %o is %o', (name, text, value) => {
    expect(readField(option(name), text)).toEqual({ value });
  });

  it.each([
    ['image_px', '7'],
    ['image_px', '513'],
    ['image_px', '8.5'],
    ['image_px', 'many'],
    ['image_px', ''],
    ['lr', '0'],
    ['lr', '10.1'],
    ['lr', 'Infinity'],
    ['dropout', '1'],
    ['pool5_px', '0'],
    ['widths', '[1'],
    ['widths', '{"a": 1}'],
  ])('of %s with %o is refused by its name', (name, text) => {
    const read = readField(option(name), text);
    expect('problem' in read && read.problem.startsWith(name)).toBe(true);
  });

  it.each([
    [null, ''],
    [0.05, '0.05'],
    [[32, 64], '[32, 64]'],
    [true, 'true'],
  ])('shows %o as %o', (value, text) => {
    expect(show(value)).toBe(text);
  });
});

it('only what differs is taken over', () => {
  expect(differences({ a: 1, b: [1, 2], c: null }, { a: 1, b: [1, 3], c: 2 })).toEqual({ b: [1, 3], c: 2 });
});
