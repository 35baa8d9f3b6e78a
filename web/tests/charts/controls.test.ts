import { describe, expect, it } from 'vitest';
import { controlsOf, modesOf, rangeOf, writeRange } from '../../src/charts/controls';

const USUAL = { mode: 'step', smoothing: 0.6 } as const;
const read = (address: string, hasTimes = false) => controlsOf(new URLSearchParams(address), USUAL, hasTimes);

describe('the controls of a chart', () => {
  it('are as usual where the address says nothing, or nothing that can be', () => {
    const usual = { mode: 'step', smoothing: 0.6, log: false, zoom: null };
    expect(read('')).toEqual(usual);
    expect(read('x=month&smooth=much&log=yes&zoom=9~3')).toEqual(usual);
    expect(read('smooth=')).toEqual(usual);
  });

  it('are what the address says', () => {
    expect(read('x=epoch&smooth=0.25&log=1&zoom=10~20')).toEqual({
      mode: 'epoch',
      smoothing: 0.25,
      log: true,
      zoom: [10, 20],
    });
    expect([read('smooth=0').smoothing, read('smooth=7').smoothing, read('smooth=-1').smoothing]).toEqual([
      0, 0.99, 0,
    ]);
  });

  it('have time only where the points have times, and the usual axis first', () => {
    expect([read('x=time').mode, read('x=time', true).mode]).toEqual(['step', 'time']);
    expect(modesOf('epoch', true)).toEqual(['epoch', 'step', 'time']);
  });
});

it('reads the zoom that it wrote', () => {
  expect(rangeOf(writeRange([100.123456789, 400]))).toEqual([100.1235, 400]);
  expect([rangeOf(null), rangeOf('5~3'), rangeOf('a~b'), writeRange(null)]).toEqual([null, null, null, null]);
});
