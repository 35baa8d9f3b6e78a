/** The address is the view: what stands behind `#` names it, its parameters and its query. */

import { createSubscriber } from 'svelte/reactivity';

export { setTitle } from './state/title.svelte';

export type ViewName =
  'jobs' | 'new' | 'job' | 'compare' | 'datasets' | 'dataset' | 'predict' | 'yard' | 'settings';

export interface Params {
  id?: string;
  tab?: string;
}

/** What a view is given; `query` is not to be changed: see `setQuery`. */
export interface ViewProps {
  params: Params;
  query: URLSearchParams;
}

export interface Route {
  view: ViewName;
  params: Params;
  query: URLSearchParams;
}

/** Values of a query: a list is the parameter repeated; null, undefined and '' leave it out. */
export type Query = Record<string, string | number | string[] | null | undefined>;

/** The first part of a path, the view without and with an id behind it. */
const PATHS: Record<string, { alone: ViewName; of?: ViewName }> = {
  jobs: { alone: 'jobs', of: 'job' },
  new: { alone: 'new' },
  compare: { alone: 'compare' },
  datasets: { alone: 'datasets', of: 'dataset' },
  predict: { alone: 'predict' },
  yard: { alone: 'yard' },
  settings: { alone: 'settings' },
};
const HOME: Route = { view: 'jobs', params: {}, query: new URLSearchParams() };

/** Reads an address's part from `#` on; one that names no view is the home's. */
export function parse(hash: string): Route {
  const [path = '', query = ''] = split(hash.replace(/^#/, ''), '?');
  const [first = '', id = '', tab = ''] = path.split('/').filter(Boolean).map(decode);
  const views = PATHS[first];
  if (views === undefined) return HOME;
  const view = id === '' ? views.alone : views.of;
  if (view === undefined) return HOME;
  return {
    view,
    params: { ...(id && { id }), ...(tab && { tab }) },
    query: new URLSearchParams(query),
  };
}

/** Writes the address of a view, for `<a href>`. */
export function href(view: ViewName, params: Params = {}, query: Query | URLSearchParams = {}): string {
  const first = view === 'job' ? 'jobs' : view === 'dataset' ? 'datasets' : view;
  const parts = [first, params.id, params.id === undefined ? undefined : params.tab];
  const path = parts
    .filter((part) => part !== undefined && part !== '')
    .map((part) => encodeURIComponent(part!));
  const search = (
    query instanceof URLSearchParams ? query : changed(new URLSearchParams(), query)
  ).toString();
  return `#/${path.join('/')}${search && `?${search}`}`;
}

/** A query with some values set anew, and the rest as it was. */
export function changed(query: URLSearchParams, changes: Query): URLSearchParams {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== null && item !== undefined && item !== '') next.append(name, String(item));
    }
  }
  return next;
}

let report: () => void = () => undefined;
const subscribe = createSubscriber((update) => {
  report = update;
  window.addEventListener('hashchange', update);
  return () => window.removeEventListener('hashchange', update);
});

let known: { hash: string; route: Route } | undefined;
function current(): Route {
  subscribe();
  const { hash } = window.location;
  if (known?.hash !== hash) known = { hash, route: parse(hash) };
  return known.route;
}

/** Where the page is now; in a component or an effect its reader follows every change. */
export const route: Readonly<Route> = {
  get view() {
    return current().view;
  },
  get params() {
    return current().params;
  },
  get query() {
    return current().query;
  },
};

/** Goes to an address that `href` wrote. */
export function navigate(address: string, { replace = false }: { replace?: boolean } = {}): void {
  if (replace) window.history.replaceState(null, '', address);
  else window.history.pushState(null, '', address);
  report();
}

/** Sets some of the query's values; the view stays. `replace`: back does not stop here, as while typing or dragging. */
export function setQuery(changes: Query, { replace = true }: { replace?: boolean } = {}): void {
  const { view, params, query } = parse(window.location.hash);
  navigate(href(view, params, changed(query, changes)), { replace });
}

function split(text: string, by: string): [string, string?] {
  const at = text.indexOf(by);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
