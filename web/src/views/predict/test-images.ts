/** Images of a dataset to ask about: one at random out of its test split, or one that an address names. */

import { api, send, url } from '../../api/client';
import { pictureOf, type Picture } from './pictures';

type Split = 'train' | 'validation' | 'test';

/** Reads a random test image, with its true class. */
export async function readTestImage(dataset: string): Promise<Picture> {
  const { data } = await api.GET('/datasets/{dataset_id}', { params: { path: { dataset_id: dataset } } });
  const split = data.num_test ? 'test' : 'train';
  const many = (split === 'test' ? data.num_test : data.num_train) ?? 1;
  return readImage(data.id, split, Math.floor(Math.random() * many));
}

/** Reads the image that `ds_…/test/17` names; null: it names none. */
export async function readNamed(name: string): Promise<Picture | null> {
  const [dataset, split, index] = name.split('/');
  if (!dataset || !isSplit(split) || !/^\d+$/.test(index ?? '')) return null;
  return readImage(dataset, split, Number(index));
}

/** The dataset that a model was trained on, or `digits` where nothing was trained yet. */
export async function datasetOf(model: string, answered: string | null): Promise<string> {
  let job = answered ?? (model.startsWith('job_') ? model.split('@')[0]! : null);
  if (job === null && model.startsWith('ckpt_')) {
    job = (await api.GET('/checkpoints/{checkpoint_id}', { params: { path: { checkpoint_id: model } } })).data
      .job;
  }
  if (job === null) {
    job = (await api.GET('/checkpoints', { params: { query: { limit: 1 } } })).data.data[0]?.job ?? null;
  }
  if (job === null) return 'digits';
  return (await api.GET('/jobs/{job_id}', { params: { path: { job_id: job } } })).data.dataset;
}

async function readImage(dataset: string, split: Split, index: number): Promise<Picture> {
  const query = { split, limit: 1, ...(index > 0 && { after: `${split}-${index - 1}` }) };
  const path = { dataset_id: dataset };
  const [{ data }, response] = await Promise.all([
    api.GET('/datasets/{dataset_id}/images', { params: { path, query } }),
    send(new Request(url(`/datasets/${dataset}/images/${split}/${index}`))),
  ]);
  const entry = data.data[0];
  return pictureOf(await response.blob(), `${split}-${index}.png`, entry?.label ?? null);
}

function isSplit(word: string | undefined): word is Split {
  return word === 'train' || word === 'validation' || word === 'test';
}
