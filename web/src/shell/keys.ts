/** The keys that work in every view. Views have keys of their own. */

import { href, navigate, type ViewName } from '../routes';
import { look } from '../state/look.svelte';

const GO: Record<string, ViewName> = { j: 'jobs', d: 'datasets', p: 'predict', y: 'yard', s: 'settings' };

/** `g` waits so long for the letter that says where to go. */
const WAIT_MS = 1500;

export interface Acts {
  help: () => void;
  palette: () => void;
}

/** Whether a single letter, pressed now, is a shortcut: not in a field, not with a dialog open, not if turned off. */
export function isShortcut(event: KeyboardEvent): boolean {
  if (!look.letters || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return false;
  const { target } = event;
  if (!(target instanceof Element)) return true;
  const isField = target.closest(
    'input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]',
  );
  return isField === null && document.querySelector('dialog[open], [popover]:popover-open') === null;
}

/** Makes the handler of the page's key presses. */
export function listen({ help, palette }: Acts): (event: KeyboardEvent) => void {
  let goingUntil = 0;
  return (event) => {
    if (
      event.key.toLowerCase() === 'k' &&
      (event.ctrlKey || event.metaKey) &&
      !event.altKey &&
      !event.shiftKey
    ) {
      event.preventDefault();
      palette();
      return;
    }
    if (!isShortcut(event)) return;
    const view = event.timeStamp < goingUntil ? GO[event.key] : undefined;
    goingUntil = event.key === 'g' ? event.timeStamp + WAIT_MS : 0;
    if (view !== undefined) {
      event.preventDefault();
      event.stopImmediatePropagation(); // the letter is not the view's
      navigate(href(view));
    } else if (event.key === '?') help();
    else if (event.key === 'n') navigate(href('new'));
    else if (event.key === '/') {
      const filter = document.querySelector<HTMLElement>('main [data-filter], main input[type=search]');
      if (filter === null) return;
      event.preventDefault();
      filter.focus();
    }
  };
}
