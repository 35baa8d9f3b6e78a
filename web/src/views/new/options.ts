/** The training options, as the recipe's `config_schema` describes them: what each is, and what it may be. */

import { count } from '../../format';

/** A value of the config, as JSON has it. */
export type Value = string | number | boolean | null | Value[];
export type Config = Record<string, Value>;

export type Kind = 'whole' | 'number' | 'yes-no' | 'choice' | 'list';

export interface Option {
  name: string;
  /** Its group in the list of all options. */
  group: string;
  description: string;
  kind: Kind;
  /** Whether it may be left empty, which means null. */
  nullable: boolean;
  choices: Value[];
  min: number | null;
  max: number | null;
  /** Whether the bounds themselves are not allowed. */
  aboveMin: boolean;
  belowMax: boolean;
}

/** What was read out of a field: a value, or why there is none. */
export type Read = { value: Value } | { problem: string };

/** The first option of each group, in the order of the schema; what is new joins the group that it stands in. */
const GROUPS: Record<string, string> = {
  widths: 'Network',
  image_px: 'Input',
  optimiser: 'Optimiser',
  batch_size: 'Length and learning rate',
  flip: 'Augmentation',
  precision: 'Computation and test',
};

interface Property {
  description?: string;
  type?: string;
  enum?: Value[];
  anyOf?: Property[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

/** Reads the options out of a config's JSON schema. */
export function readOptions(schema: unknown): Option[] {
  const properties = (schema as { properties?: Record<string, Property> } | null)?.properties ?? {};
  let group = '';
  return Object.entries(properties).map(([name, property]) => {
    group = GROUPS[name] ?? group;
    const nullable = property.anyOf?.some(({ type }) => type === 'null') ?? false;
    const shape = property.anyOf?.find(({ type }) => type !== 'null') ?? property;
    return {
      name,
      group,
      description: (property.description ?? '').replace(/\bNone:/g, 'Empty:'),
      kind: kindOf(shape),
      nullable,
      choices: shape.enum ?? [],
      min: shape.exclusiveMinimum ?? shape.minimum ?? null,
      max: shape.exclusiveMaximum ?? shape.maximum ?? null,
      aboveMin: shape.exclusiveMinimum !== undefined,
      belowMax: shape.exclusiveMaximum !== undefined,
    };
  });
}

function kindOf({ enum: choices, type }: Property): Kind {
  if (choices !== undefined) return 'choice';
  if (type === 'boolean') return 'yes-no';
  if (type === 'integer') return 'whole';
  return type === 'number' ? 'number' : 'list';
}

/** A value as its field shows it. */
export function show(value: Value | undefined): string {
  if (value === null || value === undefined) return '';
  return Array.isArray(value) ? JSON.stringify(value).replaceAll(',', ', ') : String(value);
}

/** Reads what stands in an option's field, and checks it against the option's bounds. */
export function readField(option: Option, text: string): Read {
  const given = text.trim();
  if (given === '') {
    return option.nullable ? { value: null } : { problem: `${option.name} is empty: ${sayBounds(option)}` };
  }
  switch (option.kind) {
    case 'yes-no':
      return { value: given === 'true' };
    case 'choice':
      return { value: option.choices.find((choice) => String(choice) === given) ?? given };
    case 'list':
      return readList(option, given);
    default:
      return numberIn(option, given);
  }
}

/** Says what an option may be: "1 to 1,000", "above 0, at most 10". */
export function sayBounds({ kind, min, max, aboveMin, belowMax, nullable }: Option): string {
  const low = min === null ? '' : aboveMin ? `above ${figure(min)}` : `${figure(min)} or more`;
  const high = max === null ? '' : belowMax ? `below ${figure(max)}` : `at most ${figure(max)}`;
  const both = min !== null && max !== null && !aboveMin && !belowMax;
  const range = both ? `${figure(min)} to ${figure(max)}` : [low, high].filter(Boolean).join(', ');
  const what = kind === 'whole' ? 'a whole number' : kind === 'list' ? 'a list such as [1, 2]' : 'a number';
  return [range === '' ? what : range, nullable ? 'or empty' : ''].filter(Boolean).join(', ');
}

function numberIn(option: Option, given: string): Read {
  const value = Number(given);
  const bad = (why: string): Read => ({ problem: `${option.name} is ${given}${why}: ${sayBounds(option)}` });
  if (!Number.isFinite(value)) return bad(', which is no number');
  if (option.kind === 'whole' && !Number.isInteger(value)) return bad(', which is no whole number');
  const { min, max, aboveMin, belowMax } = option;
  const low = min !== null && (aboveMin ? value <= min : value < min);
  const high = max !== null && (belowMax ? value >= max : value > max);
  return low || high ? bad('') : { value };
}

function readList(option: Option, given: string): Read {
  try {
    const value: unknown = JSON.parse(given.startsWith('[') ? given : `[${given}]`);
    if (isList(value)) return { value };
  } catch {
    // said below
  }
  return { problem: `${option.name} is no list: write it like [32, 64] or [[0, 0.1], [30, 0.01]]` };
}

function isList(value: unknown): value is Value[] {
  const isItem = (item: unknown) => isList(item) || typeof item === 'number' || typeof item === 'string';
  return Array.isArray(value) && value.every(isItem);
}

function figure(value: number): string {
  return Number.isInteger(value) ? count(value) : String(value);
}

/** What differs between two configs: the values of the second. */
export function differences(from: Config, to: Config): Config {
  const names = Object.keys(to).filter((name) => JSON.stringify(from[name]) !== JSON.stringify(to[name]));
  return Object.fromEntries(names.map((name) => [name, to[name]!]));
}
