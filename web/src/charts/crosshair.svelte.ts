import { getContext, setContext } from 'svelte';

const KEY = Symbol('crosshair');

/** The position of x that the charts of a view point at together; null while none is pointed at. */
export class Crosshair {
  x = $state<number | null>(null);
  /** The line that the pointer is near, by its key. */
  near = $state<string | null>(null);
}

/** Gives the charts below the calling component one crosshair. */
export function shareCrosshair(): Crosshair {
  return setContext(KEY, new Crosshair());
}

/** Returns the crosshair of the view, or one of its own. */
export function useCrosshair(): Crosshair {
  return getContext<Crosshair | undefined>(KEY) ?? new Crosshair();
}
