/** How the page looks and what it is used to, kept in this browser. */

export type Theme = 'system' | 'light' | 'dark';
export type Density = 'comfortable' | 'dense';

class Look {
  theme = $state<Theme>(read('theme', 'system'));
  density = $state<Density>(read('density', 'comfortable'));
  /** Whether single letters act as shortcuts. */
  letters = $state(read('letters', 'on') === 'on');
  #dark = $state(window.matchMedia('(prefers-color-scheme: dark)').matches);

  constructor() {
    window
      .matchMedia('(prefers-color-scheme: dark)')
      .addEventListener('change', (event) => (this.#dark = event.matches));
  }

  /** Whether the page is dark now; who draws on a canvas reads its colours anew when this changes. */
  get dark(): boolean {
    return this.theme === 'dark' || (this.theme === 'system' && this.#dark);
  }

  /** Shows the look and keeps it; to be called in an effect. */
  apply(): void {
    const { dataset } = document.documentElement;
    if (this.theme === 'system') delete dataset.theme;
    else dataset.theme = this.theme;
    dataset.density = this.density;
    write('theme', this.theme);
    write('density', this.density);
    write('letters', this.letters ? 'on' : 'off');
  }
}

/** Reads a habit; a browser that keeps nothing gives the default. */
export function read<T extends string>(name: string, otherwise: T): T {
  try {
    return (localStorage.getItem(`trainyard.${name}`) as T | null) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keeps a habit, where the browser keeps anything. */
export function write(name: string, value: string): void {
  try {
    localStorage.setItem(`trainyard.${name}`, value);
  } catch {
    // a private window: the habit lasts as long as the page
  }
}

export const look = new Look();
