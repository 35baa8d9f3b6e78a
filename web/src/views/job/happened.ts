/** An event of a job as a sentence. */

import { count } from '../../format';
import type { IconName } from '../../parts/icons';
import type { JobEvent } from '../../state/events.svelte';
import { sayReason, STATES } from '../../words';
import { numberIn } from './numbers';

/** Says what happened. */
export function sayEvent(event: JobEvent): string {
  const { data } = event;
  const reason = sayReason(event.reason);
  switch (event.type) {
    case 'state':
      return reason === '' ? event.state : `${event.state}: ${reason}`;
    case 'phase':
      return reason;
    case 'started': {
      const step = numberIn(data, 'step') ?? 0;
      const where = typeof data.device === 'string' ? ` on ${data.device}` : '';
      return step > 0 ? `trainer goes on at step ${count(step)}${where}` : `trainer starts${where}`;
    }
    case 'checkpoint':
      return data.kind === 'recovery'
        ? `recovery checkpoint at step ${count(numberIn(data, 'step'))}`
        : `checkpoint of epoch ${count(numberIn(data, 'epoch'))}, step ${count(numberIn(data, 'step'))}`;
    case 'warning':
      return typeof data.message === 'string' ? `${reason}: ${data.message}` : reason;
    case 'changed':
      return Array.isArray(data.fields)
        ? `its owner changed ${data.fields.join(', ')}`
        : 'its owner changed it';
    default:
      return reason || event.type;
  }
}

/** Returns the icon of an event. */
export function iconOf(event: JobEvent): IconName {
  switch (event.type) {
    case 'state':
      return STATES[event.state].icon;
    case 'checkpoint':
      return 'save';
    case 'started':
      return 'play';
    case 'warning':
      return 'warning';
    case 'changed':
      return 'pencil';
    default:
      return 'info';
  }
}
