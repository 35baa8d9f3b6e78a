import { describe, expect, it } from 'vitest';
import { mergeMetrics, NO_METRICS, stepsPerEpoch, type Metrics } from '../src/state/points';

function metrics(steps: number[], epochSteps: number[], lastStep: number): Metrics {
  return {
    by_step: steps.map((step) => ({ step, epoch: 0, train_loss: 1 / step, lr: 0.1, images_per_s: 100 })),
    by_epoch: epochSteps.map((step, i) => ({
      step,
      epoch: i + 1,
      train_loss: 1,
      val_loss: 1,
      val_top1: 0.5,
      val_top5: 1,
      seconds: 2,
    })),
    last_step: lastStep,
    thinned: false,
  };
}

describe('mergeMetrics', () => {
  it('appends what is new', () => {
    const merged = mergeMetrics(metrics([1, 2], [2], 2), metrics([3, 4], [4], 4))!;
    expect(merged.by_step.map((point) => point.step)).toEqual([1, 2, 3, 4]);
    expect(merged.by_epoch.map((point) => point.step)).toEqual([2, 4]);
    expect(merged.last_step).toBe(4);
  });

  it('replaces the epoch that is sent again, and adds one that came later than its step', () => {
    const again = mergeMetrics(metrics([1, 2], [2], 2), metrics([], [2], 2))!;
    expect(again.by_epoch.map((point) => point.step)).toEqual([2]);
    const late = mergeMetrics(metrics([1, 2], [], 2), metrics([3], [2], 3))!;
    expect(late.by_epoch.map((point) => point.step)).toEqual([2]);
  });

  it('says that all must be read again when the run went back', () => {
    expect(mergeMetrics(metrics([1, 2, 3], [], 3), metrics([], [], 2))).toBeNull();
  });

  it('begins with nothing', () => {
    expect(mergeMetrics(NO_METRICS, metrics([1], [], 1))!.by_step).toHaveLength(1);
    expect(mergeMetrics(NO_METRICS, NO_METRICS)).toEqual(NO_METRICS);
  });
});

it('knows the steps of an epoch from the last one that ended', () => {
  expect(stepsPerEpoch([])).toBeNull();
  expect(stepsPerEpoch(metrics([], [21, 42], 42).by_epoch)).toBe(21);
});
