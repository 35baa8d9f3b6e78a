import { describe, expect, it } from 'vitest';
import { findingsOf, sayDiff } from '../../src/views/datasets/report';

const REPORT = {
  num_rejected: 2,
  rejected: [{ file: 'a/cut.png', code: 'image_unreadable', reason: 'It is cut off.' }],
  duplicates: { across_classes: [['a/1.png', 'b/1.png']] },
  near_duplicates: {},
  diff: { num_added: 3, message: 'Compared with flowers: 3 added.' },
  findings: [
    { code: 'rejected_files', message: '2 files', advice: 'Look.' },
    { code: 'duplicates_across_classes', message: '1 image', advice: 'Choose.' },
    { code: 'near_duplicates', message: '1 group', advice: 'Look.' },
    { code: 'made_up_later', message: 'new', advice: '' },
  ],
};

describe('a report', () => {
  it('has its findings with the files that they are about', () => {
    expect(findingsOf(REPORT).map(({ code, groups }) => [code, groups])).toEqual([
      ['rejected_files', [['a/cut.png']]],
      ['duplicates_across_classes', [['a/1.png', 'b/1.png']]],
      ['near_duplicates', []],
      ['made_up_later', []],
    ]);
  });

  it('says what differs from the version before', () => {
    expect(sayDiff(REPORT)).toBe('Compared with flowers: 3 added.');
  });

  it.each([null, {}, { findings: 'none', diff: null }])(
    'of another form (%o) has nothing to say',
    (report) => {
      expect([findingsOf(report), sayDiff(report)]).toEqual([[], '']);
    },
  );
});
