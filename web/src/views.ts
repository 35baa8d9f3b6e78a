/** Each view is a chunk of its own, loaded when it is first shown. */

import type { Component } from 'svelte';
import type { ViewName, ViewProps } from './routes';

type Loaded = { default: Component<ViewProps> | Component };

export const views: Record<ViewName, () => Promise<Loaded>> = {
  jobs: () => import('./views/Jobs.svelte'),
  new: () => import('./views/New.svelte'),
  job: () => import('./views/Job.svelte'),
  compare: () => import('./views/Compare.svelte'),
  datasets: () => import('./views/Datasets.svelte'),
  dataset: () => import('./views/Dataset.svelte'),
  predict: () => import('./views/Predict.svelte'),
  yard: () => import('./views/Yard.svelte'),
  settings: () => import('./views/Settings.svelte'),
};
