import { createSubscriber } from 'svelte/reactivity';
import { yardNow } from '../api/client';

const subscribe = createSubscriber((update) => {
  const timer = setInterval(() => document.hidden || update(), 1000);
  document.addEventListener('visibilitychange', update);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', update);
  };
});

/** The yard's time now, in milliseconds; who reads it in a component follows it every second. */
export function now(): number {
  subscribe();
  return yardNow();
}
