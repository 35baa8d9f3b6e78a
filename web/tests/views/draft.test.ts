import { beforeEach, describe, expect, it } from 'vitest';
import { asCurl, asPython } from '../../src/views/new/commands';
import { Draft, fieldOf } from '../../src/views/new/draft.svelte';

const SCHEMA = {
  properties: {
    epochs: { type: 'integer', minimum: 1, maximum: 1000 },
    lr: { type: 'number', exclusiveMinimum: 0, maximum: 10 },
    lr_steps: { type: 'array' },
    flip: { type: 'boolean' },
  },
};
const CONFIG = { epochs: 20, lr: 0.05, lr_steps: [], flip: true };

let draft: Draft;
beforeEach(() => {
  draft = new Draft();
  draft.dataset = 'digits';
  draft.recipe = 'quick';
  draft.take(CONFIG, SCHEMA);
});

function type(name: string, text: string): void {
  draft.type(
    draft.options.find((option) => option.name === name)!,
    text,
  );
}

describe('a job that is written', () => {
  it('says nothing of what was not changed', () => {
    expect(draft.body).toEqual({ dataset: 'digits', recipe: 'quick' });
    expect(draft.problems).toEqual({});
  });

  it('has the changed options as overrides, and no others', () => {
    type('epochs', '8');
    type('lr', '0.050');
    type('flip', 'false');
    expect(draft.overrides).toEqual({ epochs: 8, flip: false });
    type('epochs', '20');
    expect(draft.overrides).toEqual({ flip: false });
  });

  it('has no option that is wrong, and says what is wrong at its field', () => {
    type('epochs', '0');
    expect(draft.body).toEqual({ dataset: 'digits', recipe: 'quick' });
    expect(draft.problems).toEqual({ 'overrides.epochs': 'epochs is 0: 1 to 1,000' });
  });

  it('keeps what was typed when another recipe is chosen', () => {
    type('epochs', '8');
    draft.take({ ...CONFIG, epochs: 8, lr: 0.1 }, SCHEMA);
    expect(draft.overrides).toEqual({});
    draft.take({ ...CONFIG, epochs: 90 }, SCHEMA);
    expect(draft.overrides).toEqual({ epochs: 8 });
  });

  it('takes over what differs of another job', () => {
    type('epochs', '3');
    draft.takeOver({ ...CONFIG, lr: 0.2, lr_steps: [[0, 0.1]] });
    expect(draft.overrides).toEqual({ lr: 0.2, lr_steps: [[0, 0.1]] });
  });

  it.each([
    ['seed', '-1'],
    ['seed', '1.5'],
    ['priority', '101'],
    ['maxRuntimeS', '0'],
  ] as const)('refuses a %s of %s', (field, text) => {
    draft[field] = text;
    expect(Object.keys(draft.problems)).toHaveLength(1);
    expect(Object.keys(draft.body)).toEqual(['dataset', 'recipe']);
  });

  it('has what else was given', () => {
    Object.assign(draft, {
      name: ' base ',
      seed: '7',
      priority: '-5',
      maxRuntimeS: '60.5',
      initFrom: 'ckpt_1',
    });
    draft.metadata.push({ key: 'team', value: 'a' }, { key: ' ', value: 'left out' });
    expect(draft.body).toEqual({
      dataset: 'digits',
      recipe: 'quick',
      name: 'base',
      seed: 7,
      priority: -5,
      max_runtime_s: 60.5,
      init_from: 'ckpt_1',
      metadata: { team: 'a' },
    });
  });

  it('wants a key of its metadata once', () => {
    draft.metadata.push({ key: 'team', value: 'a' }, { key: 'team', value: 'b' });
    expect(Object.keys(draft.problems)).toEqual(['metadata']);
  });
});

it.each([
  ['overrides.epochs', 'overrides.epochs'],
  ['overrides.lr_steps.0', 'overrides.lr_steps'],
  ['overrides', 'overrides'],
  ['priority', 'priority'],
  [null, ''],
])('a refusal of %s belongs to the field %s', (param, field) => {
  expect(fieldOf(param)).toBe(field);
});

describe('the same without the page', () => {
  const body = {
    dataset: "bob's",
    recipe: 'quick',
    overrides: { flip: true, lr_steps: [[0, 0.1]], pool5_px: null },
  };

  it('is a command whose quotes hold', () => {
    expect(asCurl('http://gpu-box:8000', body)).toBe(
      `curl http://gpu-box:8000/jobs -H 'Content-Type: application/json' -d ` +
        `'{"dataset":"bob'\\''s","recipe":"quick","overrides":{"flip":true,"lr_steps":[[0,0.1]],"pool5_px":null}}'`,
    );
  });

  it('is Python with Python’s constants', () => {
    expect(asPython('http://gpu-box:8000', body).split('\n')).toContain(
      '    overrides={"flip": True, "lr_steps": [[0, 0.1]], "pool5_px": None},',
    );
  });
});
