/** The pictures that are asked about, from wherever they come. */

export interface Picture {
  id: number;
  name: string;
  blob: Blob;
  /** To show it. */
  url: string;
  /** Its true class, where it is a test image. */
  truth: string | null;
}

let made = 0;

/** Makes a picture; `release` it when it is no longer shown. */
export function pictureOf(blob: Blob, name: string, truth: string | null = null): Picture {
  made += 1;
  return { id: made, name, blob, url: URL.createObjectURL(blob), truth };
}

export function release(picture: Picture): void {
  URL.revokeObjectURL(picture.url);
}

/** The pictures in what was dropped, pasted or chosen. Some systems tell no type for HEIC, so names count as well. */
export function picturesIn(files: Iterable<File>): File[] {
  return [...files].filter(
    ({ type, name }) =>
      type.startsWith('image/') || /\.(jpe?g|png|webp|bmp|gif|tiff?|avif|hei[cf])$/i.test(name),
  );
}

/** Divides pictures into requests: at most so many, and so many bytes, in each; a large one goes alone. */
export function inRequests(pictures: Picture[], most = 16, mostBytes = 8_000_000): Picture[][] {
  const requests: Picture[][] = [];
  let size = 0;
  for (const picture of pictures) {
    const last = requests.at(-1);
    if (last === undefined || last.length >= most || size + picture.blob.size > mostBytes) {
      requests.push([picture]);
      size = picture.blob.size;
    } else {
      last.push(picture);
      size += picture.blob.size;
    }
  }
  return requests;
}
