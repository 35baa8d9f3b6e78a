/** The title of the view: the page's one heading, and the browser's tab. */

export interface Back {
  href: string;
  text: string;
}

class Title {
  text = $state('');
  /** Where the arrow before the title leads; null: there is none. */
  back = $state<Back | null>(null);
}

export const title = new Title();

/** Names the view; each view calls this in an effect, so that it follows what is loaded. */
export function setTitle(text: string, back: Back | null = null): void {
  title.text = text;
  title.back = back;
  document.title = text === '' ? 'Trainyard' : `${text} · Trainyard`;
}
