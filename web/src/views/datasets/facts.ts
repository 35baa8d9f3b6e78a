/** What a dataset is, in words. */

import type { Schemas } from '../../api/client';
import { count, counted } from '../../format';

export type Dataset = Schemas['DatasetRead'];

/** "10 classes, 28 px grey"; '' while nothing is known. */
export function sayShape({ num_classes: classes, image_px: px, channels }: Dataset): string {
  const parts: string[] = [];
  if (classes !== null) parts.push(counted(classes, 'class', 'classes'));
  if (px !== null) parts.push(`${px} px${channels === 1 ? ' grey' : channels === 3 ? ' colour' : ''}`);
  return parts.join(', ');
}

/** "54,000 / 6,000 / 10,000": the images to train, validate and test on. */
export function sayCounts({ num_train, num_val, num_test }: Dataset): string {
  if (num_train === null) return '';
  return [num_train, num_val, num_test].map((some) => count(some ?? 0)).join(' / ');
}

/** How many images it has; null while nothing is known. */
export function numImages({ num_train, num_val, num_test }: Dataset): number | null {
  return num_train === null ? null : num_train + (num_val ?? 0) + (num_test ?? 0);
}

/** Whether a job may name it: one that is still coming waits for it. */
export function isTrainable({ state }: Dataset): boolean {
  return state !== 'rejected';
}
