/** The tabs of a job; each is loaded when it is first shown. */

import type { Component } from 'svelte';
import type { Events } from '../../state/events.svelte';
import type { Job } from '../../state/job.svelte';
import type { Series } from '../../state/series.svelte';

export interface TabProps {
  job: Job;
  series: Series;
  events: Events;
  query: URLSearchParams;
}

export interface Tab {
  name: string;
  text: string;
  load: () => Promise<{ default: Component<TabProps> }>;
}

type Load = Tab['load'];

export const tabs: readonly [Tab, ...Tab[]] = [
  tab('curves', 'Curves', () => import('./Curves.svelte') as ReturnType<Load>),
  tab('evaluation', 'Evaluation', () => import('./Evaluation.svelte') as ReturnType<Load>),
  tab('checkpoints', 'Checkpoints', () => import('./Checkpoints.svelte') as ReturnType<Load>),
  tab('events', 'Events', () => import('./EventList.svelte') as ReturnType<Load>),
  tab('log', 'Log', () => import('./Log.svelte') as ReturnType<Load>),
  tab('config', 'Config', () => import('./Config.svelte') as ReturnType<Load>),
];

/** Returns the tab of this name; the first one for a name that there is not. */
export function tabOf(name: string | undefined): Tab {
  return tabs.find((candidate) => candidate.name === name) ?? tabs[0];
}

/** Makes a tab that is asked for once only, so that going back to it shows it at once. */
function tab(name: string, text: string, load: Load): Tab {
  let loading: ReturnType<Load> | undefined;
  return {
    name,
    text,
    load: () => {
      loading ??= load().catch((error: unknown) => {
        loading = undefined;
        throw error;
      });
      return loading;
    },
  };
}
