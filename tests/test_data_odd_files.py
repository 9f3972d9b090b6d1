"""Odd files among images: read as they lie, said, or refused by name; never waited for, never a traceback."""

import os
import random
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import resnetlab.vision.data as data
from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check, prepare, said
from resnetlab.vision.data.decode import Decoder, decode

ORIENTATION = 0x112
COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def tree(root, images):
    """images: {"train/a/0.png": image or array, …}."""
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(root / name)
    return root


def pets(root, *more):
    names = [f"train/{label}/{i}.png" for label in ("cat", "dog") for i in range(12)]
    return tree(root, {name: COLOUR ^ np.uint8(i) for i, name in enumerate([*names, *more])})


def opened(root, **settings):
    data._prepared.clear()  # as another process would
    return prepare(DataConfig(name="folder", root=str(root), **settings), root.parent / "cache")


def lines(root, **settings):
    config = DataConfig(name="folder", root=str(root), **settings)
    return said(config, opened(root, **settings), seed=0)


def grey(bits, seed=0):
    values = np.random.default_rng(seed).integers(0, 2**bits, (6, 8), dtype=np.uint16)
    values[0, 0] = 2**bits - 1
    return values


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_sixteen_bit_grey_keeps_the_bits_that_the_set_uses(tmp_path, bits):
    images = {f"train/{label}/{i}.png": grey(bits, seed=i) for i in range(12) for label in "ab"}
    images["train/b/9.png"] //= 16  # a dark one is scaled like the others
    root = tree(tmp_path / "x", images)
    dataset = opened(root)  # by name: 0, 1, 10, 11, 2, …
    assert np.array_equal(dataset.images[3, ..., 0], images["train/a/11.png"] >> (bits - 8))
    assert np.array_equal(dataset.images[23, ..., 0], images["train/b/9.png"] >> (bits - 8))
    shift = bits - 8
    used = f"divided by {2**shift}, as the largest value here has {bits} bits" if shift else "no value above 255"
    assert any(f"16-bit grey: {used}" in line and "(24 of 24 images)" in line for line in lines(root))


def deep_png(path, pixels):
    """(H, W, 3) uint16 as a PNG file, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_sixteen_bit_colour_is_said_and_refused_where_it_would_be_dark(tmp_path):
    root = pets(tmp_path / "x")
    deep_png(root / "train/cat/3.png", np.full((6, 8, 3), 0xC0FF, np.uint16))
    deep_png(root / "train/cat/4.png", np.full((6, 8, 3), 0x0FFF, np.uint16))
    assert (opened(root).images[5] == 0xC0).all()  # by name: 0, 1, 10, 11, 2, 3
    assert any("16 bits a channel: the low byte is dropped (2 of 24 images)" in line for line in lines(root))
    deep_png(root / "train/cat/3.png", np.full((6, 8, 3), 0x0FF, np.uint16))
    with pytest.raises(BadData, match=r"cat/3.png: colour with 16 bits a channel, none of which uses the highest bit"):
        opened(root)


def test_what_was_changed_in_reading_is_counted(tmp_path):
    root = pets(tmp_path / "x")
    clear = np.dstack([COLOUR, np.full((6, 8), 9, np.uint8)])
    turned = Image.Exif()
    turned[ORIENTATION] = 3
    place = root / "train/cat"
    Image.fromarray(COLOUR).convert("P").save(place / "0.png")
    Image.fromarray(clear).save(place / "1.png")
    Image.fromarray(clear | 255).save(place / "2.png")  # opaque: as it lies
    Image.fromarray(COLOUR).save(place / "3.png", exif=turned)
    for name in ("4.tif", "5.tif"):
        Image.fromarray(COLOUR).convert("CMYK").save(place / name)
    Image.fromarray(COLOUR).save(place / "6.gif", save_all=True, append_images=[Image.fromarray(COLOUR // 2)])
    noted = opened(root).notes["changes"]
    assert noted == {
        "CMYK converted to RGB without a colour profile": 2,
        "colours of a palette": 2,
        "several frames: the first is read": 1,
        "transparent parts laid on white": 1,
        "turned upright as its EXIF data says": 1,
    }
    (line,) = [line for line in lines(root) if line.startswith("not read as it lies")]
    assert "CMYK converted to RGB without a colour profile (2 of 27 images)" in line
    assert not [line for line in lines(pets(tmp_path / "y")) if line.startswith("not read as it lies")]


def test_values_of_more_than_eight_bits_of_other_kinds_are_refused(tmp_path):
    root = pets(tmp_path / "x")
    Image.new("I", (8, 6)).save(root / "train/cat/2.tif")
    with pytest.raises(BadData, match=r"cat/2.tif: pixels of kind I \(32-bit integers\) are not supported"):
        opened(root)


def test_a_page_that_another_program_would_draw_is_refused(tmp_path):
    root = pets(tmp_path / "x")
    Image.fromarray(COLOUR).save(root / "train/cat/2.eps")
    with pytest.raises(BadData, match=r"cat/2.eps: EPS is a page to be drawn, not pixels"):
        opened(root)


def decoded(path):
    return decode(str(path), None, None, lambda: 16).pixels


HEAD = b"Exif\0\0MM" + struct.pack(">HIH", 42, 8, 2)
TURNED = struct.pack(">HHIHH", ORIENTATION, 3, 1, 6, 0)
ODD = {
    "a description that is a number": HEAD
    + struct.pack(">HHII", 0x10E, 5, 1, 38)
    + TURNED
    + struct.pack(">III", 0, 1, 0),
    "a unit that is a text": HEAD + TURNED + struct.pack(">HHI4s", 0x128, 2, 3, b"in\0\0") + struct.pack(">I", 0),
}


@pytest.mark.parametrize("exif", ODD.values(), ids=ODD)
def test_a_photo_with_odd_metadata_is_turned_upright(tmp_path, exif):
    Image.fromarray(COLOUR).save(tmp_path / "odd.jpg", exif=exif)
    Image.fromarray(COLOUR).save(tmp_path / "plain.jpg")
    assert np.array_equal(decoded(tmp_path / "odd.jpg"), np.rot90(decoded(tmp_path / "plain.jpg"), -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as file:
        assert np.array_equal(decoded(tmp_path / "x.png"), np.asarray(ImageOps.exif_transpose(file)))


TAGS = [0x100, 0x111, ORIENTATION, 0x11A, 0x11B, 0x128, 0x10E, 0x8769, 0x8825, 0xA005, 0x2BC, 0x9286, 0x14A, 0x201]


def test_pixels_are_read_whatever_the_metadata_holds(tmp_path):
    """Random directories of tags: the pixels as they lie, turned, or a refusal that blames the metadata."""
    draw = random.Random(0)
    seen = 0
    for number in range(400):
        order, mark = draw.choice([("<", b"II"), (">", b"MM")])
        tags = sorted(draw.sample(TAGS, draw.randint(1, 6)))
        values = [struct.pack(order + "HH", 6, 0), struct.pack(order + "I", 8), draw.randbytes(4)]
        counts = [0, 1, 2, 3, 2**31]
        body = b"".join(
            struct.pack(order + "HHI4s", tag, draw.randint(0, 18), draw.choice(counts), draw.choice(values))
            for tag in tags
        )
        exif = b"Exif\0\0" + mark + struct.pack(order + "HIH", 42, 8, len(tags)) + body + draw.randbytes(8)
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(COLOUR).save(path, exif=exif)
        try:
            assert decoded(path).size == COLOUR.size
            seen += 1
        except Exception as error:
            assert "header or metadata cannot be read" in str(error), path
    assert seen > 390


def test_a_jpeg_that_pillow_cannot_open_for_its_metadata_is_not_called_no_image(tmp_path):
    """Its resolution is an empty text, on which Pillow 13.0 fails as it opens the file."""
    body = struct.pack(">HHI4s", 0x11A, 2, 0, b"\0\0\0\0") + struct.pack(">HHIHH", 0x128, 3, 1, 2, 0)
    Image.fromarray(COLOUR).save(tmp_path / "x.jpg", exif=HEAD + body + struct.pack(">I", 0))
    try:
        assert decoded(tmp_path / "x.jpg").size == COLOUR.size  # a later Pillow
    except Exception as error:
        assert "begins as a JPEG file, but its header or metadata cannot be read" in str(error)


@pytest.mark.parametrize("packed", [True, False])
def test_long_texts_beside_the_pixels_are_passed_over(tmp_path, packed):
    info = PngImagePlugin.PngInfo()
    info.add_text("XML:com.adobe.xmp", "x" * 2_000_000, zip=packed)
    Image.fromarray(COLOUR).save(tmp_path / "x.png", pnginfo=info)
    assert np.array_equal(decoded(tmp_path / "x.png"), COLOUR)


def test_texts_that_would_fill_the_memory_are_refused_as_such(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (2**26 + 1), zip=True)
    Image.fromarray(COLOUR).save(root := tmp_path / "x.png", pnginfo=info)
    with pytest.raises(BadData, match=r"x.png: its text metadata has more than 64 MiB"):
        Decoder(None, None, str(root)).many([str(root)])


def pipe(path):
    os.mkfifo(path)


def bind(path):
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


SPECIAL = {
    "a pipe": (pipe, "a named pipe, not an image file"),
    "a socket": (bind, "a socket, not an image file"),
    "a device by a link": (lambda path: path.symlink_to("/dev/zero"), "a device, not an image file"),
    "a pipe by a link": (lambda path: (pipe(path.parents[3] / "p"), path.symlink_to(path.parents[3] / "p")), "a named"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "a link to nothing": (lambda path: path.symlink_to("gone.png"), "cannot be read"),
    "a folder": (lambda path: path.mkdir(), "a folder inside a class folder"),
}


@pytest.mark.parametrize(("make", "message"), SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_plain_file_is_refused_without_being_opened(tmp_path, make, message):
    root = pets(tmp_path / "x")
    make(root / "train/cat/9x.png")
    code = (
        "import sys; from pathlib import Path; from resnetlab.study.data_config import DataConfig\n"
        "from resnetlab.vision.data import prepare; from resnetlab.errors import BadData\n"
        "try: prepare(DataConfig(name='folder', root=sys.argv[1]), Path(sys.argv[2]))\n"
        "except BadData as error: print(error)"
    )
    run = [sys.executable, "-c", code, str(root), str(tmp_path / "cache")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=500)
    assert done.stdout.count("\n") == 1 and f"cat/9x.png: {message}" in done.stdout, done.stderr


@pytest.mark.parametrize("place", ["train/9x", "test"])
def test_links_that_lead_round_in_a_circle_among_folders_are_named(tmp_path, place):
    root = pets(tmp_path / "x")
    (root / place).symlink_to(Path(place).name)
    with pytest.raises(BadData, match=rf"{place}: cannot be read \(Too many levels of symbolic links\)"):
        check(DataConfig(name="folder", root=str(root)))


def test_files_of_file_managers_are_passed_over_and_said(tmp_path):
    root = pets(tmp_path / "x")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png", "._2.png"):
        (root / "train/cat" / name).write_bytes(b"x")
    (root / "train/__MACOSX").mkdir()
    (root / "train/.DS_Store").touch()
    (root / "README.txt").touch()
    (root / "annotations").mkdir()
    assert len(opened(root).images) == 24
    found = lines(root)
    names = ".DS_Store (2), ._* (2), Thumbs.db, __MACOSX, desktop.ini"
    assert f"passed over: 7 hidden or of file managers: {names}" in found
    assert "passed over beside the splits: README.txt, annotations/" in found
    assert not [line for line in lines(pets(tmp_path / "y")) if line.startswith("passed over")]


def test_broken_files_of_a_large_folder_are_named_together(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetlab.vision.data.folder.image_folder.CHUNK", 4)
    root = pets(tmp_path / "x")
    for name in ("cat/3", "cat/9", "dog/2", "dog/8"):
        (root / f"train/{name}.png").write_bytes(b"")
    with pytest.raises(BadData) as error:
        opened(root)
    first, _, row, _ = str(error.value).splitlines()
    assert first.endswith("x: 4 of 24 images cannot be used:")
    assert row.split("  ")[-2:] == [
        "not an image: the file is empty",
        "train/cat/3.png, train/cat/9.png, train/dog/2.png, …",
    ]


def test_images_that_were_read_as_they_lie_keep_their_content_hash(tmp_path):
    """The hash was recorded before any of the above was told apart."""
    images = {f"train/{label}/{i}.png": COLOUR ^ np.uint8(i) for i in range(12) for label in "ab"}
    images["train/a/0.png"] = Image.fromarray(COLOUR).quantize(16)
    images["train/a/1.png"] = np.dstack([COLOUR, COLOUR[..., :1]])
    images["train/a/2.png"] = Image.fromarray(COLOUR).convert("L")
    images["train/a/3.png"] = np.array(grey(16))
    root = tree(tmp_path / "x", images)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(COLOUR).save(root / "train/b/0.png", exif=exif)
    assert opened(root, mode="rgb", size=8).hash == "30e59ec38de26a87"


def test_class_names_that_are_nearly_one_are_said(tmp_path):
    root = pets(tmp_path / "x", "train/Dog/0.png", "train/caf\u00e9/0.png", "train/cafe\u0301/0.png")
    (line,) = [line for line in lines(root) if line.startswith("classes whose names")]
    assert "'Dog', 'dog', 'cafe\u0301', 'caf\u00e9'" in line


def test_a_class_name_that_is_no_text_is_refused(tmp_path):
    root = pets(tmp_path / "x")
    (root / "train" / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(BadData, match=r"caf.udce9': the name of a class must be text in UTF-8"):
        check(DataConfig(name="folder", root=str(root)))
