/** A job that is being written: what stands in the form, what is wrong with it, and the body that it makes. */

import { SvelteMap } from 'svelte/reactivity';
import type { Schemas } from '../../api/client';
import { type Config, differences, type Option, readField, readOptions, show, type Value } from './options';

export type JobCreate = Schemas['JobCreate'];

/** A bound of a field of the job itself, as `POST /jobs` has it. */
interface Bound {
  min: number;
  max: number;
  whole: boolean;
}

const BOUNDS: Record<'seed' | 'priority' | 'max_runtime_s', Bound> = {
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, whole: true }, // the API takes more than JavaScript can write
  priority: { min: -100, max: 100, whole: true },
  max_runtime_s: { min: 0.001, max: 31_622_400, whole: false },
};

export class Draft {
  dataset = $state('');
  recipe = $state('');
  /** Whether the recipe was chosen, so that another dataset does not change it. */
  recipeChosen = $state(false);
  name = $state('');
  seed = $state('');
  priority = $state('');
  maxRuntimeS = $state('');
  initFrom = $state('');
  metadata = $state<{ key: string; value: string }[]>([]);

  /** The recipe's config and its options; empty until they are loaded. */
  base = $state.raw<Config>({});
  options = $state.raw<Option[]>([]);
  /** What was typed over the recipe's values. */
  readonly texts = new SvelteMap<string, string>();

  /** Takes a recipe's config and schema; what was typed stays. */
  take(config: Config, schema: unknown): void {
    this.base = config;
    this.options = readOptions(schema);
  }

  /** Takes over what another job was trained with. */
  takeOver(config: Config): void {
    this.texts.clear();
    for (const [name, value] of Object.entries(differences(this.base, config)))
      this.texts.set(name, show(value));
  }

  /** What stands in an option's field. */
  textOf(option: Option): string {
    return this.texts.get(option.name) ?? show(this.base[option.name]);
  }

  /** Types into an option's field; the recipe's own value is no change. */
  type(option: Option, text: string): void {
    if (text === show(this.base[option.name])) this.texts.delete(option.name);
    else this.texts.set(option.name, text);
  }

  /** The options that differ from the recipe. */
  readonly overrides = $derived.by<Config>(() => {
    const changed: Config = {};
    for (const option of this.options) {
      const text = this.texts.get(option.name);
      if (text === undefined) continue;
      const read = readField(option, text);
      if ('value' in read && !same(read.value, this.base[option.name])) changed[option.name] = read.value;
    }
    return changed;
  });

  /** What is wrong, by the field's `param` in the API. */
  readonly problems = $derived.by<Record<string, string>>(() => {
    const found: Record<string, string> = {};
    for (const option of this.options) {
      const text = this.texts.get(option.name);
      const read = text === undefined ? null : readField(option, text);
      if (read !== null && 'problem' in read) found[`overrides.${option.name}`] = read.problem;
    }
    for (const [field, text] of this.#numbers()) {
      const problem = checkNumber(field, text);
      if (problem !== null) found[field] = problem;
    }
    if (this.dataset === '') found.dataset = 'Choose a dataset.';
    if (this.name.length > 200) found.name = `The name has ${this.name.length} characters: 200 at most.`;
    const keys = this.metadata.map(({ key }) => key.trim()).filter(Boolean);
    if (new Set(keys).size !== keys.length) found.metadata = 'A key is there twice.';
    return found;
  });

  /** The body of `POST /jobs`; only what was given is in it. */
  readonly body = $derived.by<JobCreate>(() => {
    const metadata = Object.fromEntries(
      this.metadata.filter(({ key }) => key.trim() !== '').map(({ key, value }) => [key.trim(), value]),
    );
    const numbers = this.#numbers().filter(
      ([field, text]) => text.trim() !== '' && checkNumber(field, text) === null,
    );
    return {
      dataset: this.dataset,
      recipe: this.recipe,
      ...(this.name.trim() !== '' && { name: this.name.trim() }),
      ...(Object.keys(this.overrides).length > 0 && { overrides: this.overrides }),
      ...Object.fromEntries(numbers.map(([field, text]) => [field, Number(text)])),
      ...(this.initFrom.trim() !== '' && { init_from: this.initFrom.trim() }),
      ...(Object.keys(metadata).length > 0 && { metadata }),
    } as JobCreate;
  });

  #numbers(): [keyof typeof BOUNDS, string][] {
    return [
      ['seed', this.seed],
      ['priority', this.priority],
      ['max_runtime_s', this.maxRuntimeS],
    ];
  }
}

/** The field that a refusal's `param` belongs to: `overrides.lr_steps.0` is `overrides.lr_steps`. */
export function fieldOf(param: string | null): string {
  const [first = '', second] = (param ?? '').split('.');
  return first === 'overrides' && second !== undefined ? `${first}.${second}` : first;
}

function same(a: Value, b: Value | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function checkNumber(field: keyof typeof BOUNDS, text: string): string | null {
  if (text.trim() === '') return null;
  const { min, max, whole } = BOUNDS[field];
  const value = Number(text);
  if (Number.isFinite(value) && value >= min && value <= max && (!whole || Number.isInteger(value)))
    return null;
  const range =
    field === 'max_runtime_s'
      ? 'seconds above 0, at most a year'
      : `${min} to ${max.toLocaleString('en-US')}`;
  return `${field} is ${text.trim()}: ${whole ? 'a whole number, ' : ''}${range}`;
}
