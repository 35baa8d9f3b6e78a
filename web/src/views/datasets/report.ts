/** The report of a validation, as far as the page shows it: its parts are checked, as the API leaves their form open. */

export interface Finding {
  code: string;
  message: string;
  advice: string;
  /** Files that it is about, in groups; of many the first. */
  groups: string[][];
}

type Loose = Record<string, unknown>;

/** Where the files of a finding stand in the report. */
const FILES: Record<string, string[]> = {
  rejected_files: ['rejected'],
  outside_classes: ['outside_classes'],
  empty_classes: ['empty_classes'],
  duplicates_across_splits: ['duplicates', 'across_splits'],
  duplicates_across_classes: ['duplicates', 'across_classes'],
  near_duplicates: ['near_duplicates', 'within'],
  near_duplicates_across_splits: ['near_duplicates', 'across_splits'],
  near_duplicates_across_classes: ['near_duplicates', 'across_classes'],
};

/** What was found, with the files that it is about. */
export function findingsOf(report: Loose | null): Finding[] {
  return list(report?.findings).map((finding) => {
    const code = text(loose(finding).code);
    return {
      code,
      message: text(loose(finding).message),
      advice: text(loose(finding).advice),
      groups: groupsOf(report, FILES[code] ?? []),
    };
  });
}

/** What differs from the version before, in a sentence; '': none was named. */
export function sayDiff(report: Loose | null): string {
  return text(loose(report?.diff).message);
}

function groupsOf(report: Loose | null, path: string[]): string[][] {
  if (path.length === 0) return [];
  const found = path.reduce<unknown>((at, name) => loose(at)[name], report);
  return list(found).map((entry) => {
    if (Array.isArray(entry)) return entry.map(String);
    return typeof entry === 'object' && entry !== null ? [text(loose(entry).file)] : [String(entry)];
  });
}

function loose(value: unknown): Loose {
  return typeof value === 'object' && value !== null ? (value as Loose) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
