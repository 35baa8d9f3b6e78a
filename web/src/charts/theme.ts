/** The colours of the tokens as a canvas needs them, and when they change. */

import { createSubscriber } from 'svelte/reactivity';
import { colourToken } from './palette';

export interface Theme {
  text: string;
  dim: string;
  line: string;
  card: string;
  control: string;
  warn: string;
  bad: string;
  accent: string;
  fontFamily: string;
  series: (colour: number) => string;
}

/** Reads the colours that hold inside this element; `light-dark()` and custom properties are resolved by the browser. */
export function readTheme(element: HTMLElement): Theme {
  const probe = document.createElement('span');
  probe.hidden = true;
  element.append(probe);
  const resolve = (token: string): string => {
    probe.style.color = `var(${token})`;
    return getComputedStyle(probe).color;
  };
  const series = Array.from({ length: 8 }, (_, colour) => resolve(colourToken(colour)));
  const theme: Theme = {
    text: resolve('--text'),
    dim: resolve('--dim'),
    line: resolve('--line'),
    card: resolve('--card'),
    control: resolve('--control'),
    warn: resolve('--warn'),
    bad: resolve('--bad'),
    accent: resolve('--accent'),
    fontFamily: getComputedStyle(element).fontFamily,
    series: (colour) => series[colour % series.length]!,
  };
  probe.remove();
  return theme;
}

let changes = 0;
const subscribe = createSubscriber((update) => {
  const report = (): void => {
    changes += 1;
    update();
  };
  const scheme = window.matchMedia('(prefers-color-scheme: dark)');
  const attributes = new MutationObserver(report);
  scheme.addEventListener('change', report);
  attributes.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  return () => {
    scheme.removeEventListener('change', report);
    attributes.disconnect();
  };
});

/** How often the theme has changed: an effect that reads it runs again after the next change. */
export function themeChanges(): number {
  subscribe();
  return changes;
}
