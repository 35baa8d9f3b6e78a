"""What fuzzing begins with: small files of every kind that is read, and hostile ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator

from PIL import Image

from tests import heic_images
from tests.alexnet_core.archive_files import Entry, compress, raw_zip, tar_member, tar_of, zip_of
from tests.alexnet_core.data.archives.test_zip_source import lies
from tests.hostile_images import encode

MEMBERS = {"train/a/1.png": b"x" * 40, "train/b/2.png": b"y", "val/a/é.png": b"", "__MACOSX/._1": b"z"}
TABLES = {
    "labels.csv": b"file,label,split\na/1.png,cat,train\na/2.png,dog,val\n",
    "metadata.jsonl": b'{"file_name": "a/1.png", "label": "cat"}\n',
    "a/1.png": b"1",
    "a/2.png": b"2",
}
MNIST = {
    "train-images-idx3-ubyte": bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]),
    "train-labels-idx1-ubyte": bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]),
}


def list_archives() -> Iterator[bytes]:
    """Zips, tars and compressed tars."""
    for members in (MEMBERS, TABLES, MNIST, {}):
        yield zip_of(members)
        yield zip_of(members, zipfile.ZIP_STORED)
        for how in ("", "gz", "zst"):
            yield compress(tar_of(members), how)
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive, archive.open("a/1.png", "w", force_zip64=True) as file:
            file.write(b"x")
        yield buffer.getvalue()
    yield raw_zip([Entry(b"../evil", b"x"), Entry(b"a/\xff", b"y", flags=1), Entry(b"c", mode=0o120777)])
    yield from lies().values()
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE):
        yield tar_of(MEMBERS, tar_member("a/odd", kind=kind, linkname="/etc/passwd"))
    yield tar_of({"a/" + "long" * 40: b"x"}, tar_member("é", b"y", pax_headers={"comment": "z"}))


def list_images() -> Iterator[bytes]:
    """Images of every format and mode that is written."""
    picture = Image.radial_gradient("L").resize((20, 14))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        image = picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
        for file_format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"):
            try:
                yield encode(image, file_format)
            except (OSError, ValueError):  # the format does not have this mode
                continue
    colour = picture.convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    yield encode(colour, "JPEG", exif=exif, progressive=True, comment=b"hello")
    yield encode(colour, "PNG", exif=exif, transparency=(0, 0, 0))
    yield encode(colour, "GIF", save_all=True, append_images=[colour.rotate(90)], comment=b"hello")
    yield encode(colour, "WEBP", save_all=True, append_images=[colour.rotate(90)], lossless=True)
    for compression in ("tiff_lzw", "packbits", "tiff_deflate", "jpeg", "group4"):
        yield encode(picture.convert("1") if compression == "group4" else colour, "TIFF", compression=compression)
    yield heic_images.PLAIN


SEEDS = {"archive": list_archives, "image": list_images}
