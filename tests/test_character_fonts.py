"""The Character Font Images archive: streamed, read whole or refused; on small files in the published format."""

import json
import tracemalloc
import zipfile
from io import BytesIO

import numpy as np
import pytest
from sweeps_here import run_here

import resnetlab.vision.data as data
from resnetlab.cli.dry_run import dry_run
from resnetlab.driver.options import Options
from resnetlab.errors import BadData, BadRequest
from resnetlab.study import build_study
from resnetlab.study.data_config import DataConfig
from resnetlab.study.records import bad_rows_said
from resnetlab.vision.data import check, prepare
from resnetlab.vision.data.character_fonts import PIXELS, CharacterFonts

HEADER = "font,fontVariant,m_label,strength,italic,orientation,m_top,m_left,originalH,originalW,h,w," + ",".join(PIXELS)
CODES = [65, 66, 233, 8730, 32]


def row(font, code, pixels, h=20):
    return f"{font},{font} BT,{code},0.400000,0,0.000000,35,21,51,22,{h},20," + ",".join(map(str, pixels))


def made(fonts=("AGENCY", "BELL", "ÉLAN"), per=20, seed=0):
    """File name -> text, and what must come out: images (N, 20, 20), codes, font names, in the order of the files."""
    rng = np.random.default_rng(seed)
    files, images, codes, names = {}, [], [], []
    for font in sorted(fonts):
        lines = [HEADER]
        for i in range(per):
            pixels = rng.integers(0, 256, 400)
            lines.append(row(font, CODES[i % len(CODES)], pixels))
            images.append(pixels.reshape(20, 20))
            codes.append(CODES[i % len(CODES)])
            names.append(font)
        files[f"{font}.csv"] = "\n".join(lines) + "\n"
    return files, np.array(images, np.uint8), codes, names


def pack(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def opened(path, **settings):
    data._prepared.clear()
    return prepare(DataConfig(name="character-fonts", root=str(path), **settings), path.parent / "cache")


def refused(path, match, **settings):
    """The message of the refusal, which must leave nothing in the cache."""
    with pytest.raises(BadData, match=match) as caught:
        opened(path, **settings)
    cache = path.parent / "cache"
    assert not cache.exists() or not list(cache.iterdir()), "half-written"
    return str(caught.value)


def test_images_and_both_labels(tmp_path):
    files, images, codes, names = made()
    path = pack(tmp_path / "fonts.zip", files | {"README.txt": "hello", "__MACOSX/._A.csv": "junk"})
    character, font = opened(path), opened(path, label="font")
    assert np.array_equal(character.images, images[..., None])
    assert character.shape == (20, 20, 1) and character.images.dtype == np.uint8
    assert [character.classes[label] for label in character.labels] == [
        {65: "U+0041 A", 66: "U+0042 B", 233: "U+00E9 é", 8730: "U+221A √", 32: "U+0020"}[code] for code in codes
    ]
    assert [font.classes[label] for label in font.labels] == names
    assert font.classes == ("AGENCY", "BELL", "ÉLAN")
    assert character.hash != font.hash
    assert np.array_equal(character.split("test", 0), font.split("test", 0))


def test_seventy_fifteen_fifteen(tmp_path):
    dataset = opened(pack(tmp_path / "fonts.zip", made(per=100)[0]))
    sizes = [len(dataset.split(name, 3)) for name in ("train", "val", "test")]
    assert sizes == [210, 45, 45]
    other = opened(tmp_path / "fonts.zip", val_fraction=0.1)
    assert len(other.split("val", 3)) == 26


def test_order_of_files_and_columns_does_not_matter(tmp_path):
    files = made()[0]
    dataset = opened(pack(tmp_path / "fonts.zip", files))
    turned = {}
    for name, text in reversed(files.items()):
        cells = [line.split(",") for line in text.splitlines()]
        turned[name] = (
            "\r\n".join(",".join([*reversed(line), f'"x, {i}"']) for i, line in enumerate(cells)) + "\r\n\r\n"
        )
    (tmp_path / "other").mkdir()
    assert opened(pack(tmp_path / "other/fonts.zip", turned)).hash == dataset.hash
    assert opened(tmp_path / "other").hash == dataset.hash, "a folder with fonts.zip in it"


def test_more_rows_than_are_read_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetlab.vision.data.character_fonts.ROWS", 7)
    files, images, _, _ = made()
    assert np.array_equal(opened(pack(tmp_path / "fonts.zip", files)).images[..., 0], images)


def change(text, line, column, value):
    lines = text.splitlines()
    cells = lines[line - 1].split(",")
    cells[HEADER.split(",").index(column)] = value
    return "\n".join([*lines[: line - 1], ",".join(cells), *lines[line:]]) + "\n"


@pytest.mark.parametrize(
    ("column", "value", "kind", "why"),
    [
        ("r3c4", "x", "not a whole number", "r3c4 is 'x', need a whole number"),
        ("r3c4", "", "not a whole number", "r3c4 is '', need a whole number"),
        ("r0c0", "12.5", "not a whole number", "r0c0 is '12.5', need a whole number"),
        ("r0c0", "12.0", "not a whole number", "r0c0 is '12.0', need a whole number"),
        ("r19c19", "256", "out of range", "r19c19 is 256, need 0 to 255"),
        ("r19c19", "-1", "out of range", "r19c19 is -1, need 0 to 255"),
        ("r19c19", "99999999999999999999999", "out of range", "r19c19 is 99999999999999999999, need 0 to 255"),
        ("m_label", "1114112", "out of range", "m_label is 1114112, need 0 to 1114111"),
        ("m_label", "nan", "not a whole number", "m_label is 'nan', need a whole number"),
        ("h", "21", "out of range", "h is 21, need 20"),
        ("font", " ", "no font", "font is empty"),
        ("r5c5", "1,2", "wrong number of fields", "413 fields, need 412"),
    ],
)
def test_a_bad_row_is_left_out_counted_and_named(tmp_path, column, value, kind, why):
    files, images, _, _ = made(("AGENCY", "BELL"), per=200)
    files["BELL.csv"] = change(files["BELL.csv"], 9, column, value)
    dataset = opened(pack(tmp_path / "fonts.zip", files))
    assert dataset.notes["bad rows"] == {
        "count": 1, "of": 400, "kinds": {kind: 1}, "first": [f"BELL.csv line 9: {why}"]
    }  # fmt: skip
    assert np.array_equal(dataset.images[..., 0], np.delete(images, 200 + 7, axis=0))
    assert len(dataset.labels) == 399 and "bad rows" not in opened(pack(tmp_path / "fonts.zip", made()[0])).notes


def test_all_bad_rows_are_counted_and_the_first_named(tmp_path):
    files = made(per=300)[0]
    for name in files:
        for line, value in ((3, "?"), (5, "256"), (8, "?")):
            files[name] = change(files[name], line, "r1c1", value)
    files["BELL.csv"] = files["BELL.csv"].replace("\n", "\n\n")  # blank lines count as lines and as nothing else
    bad = opened(pack(tmp_path / "fonts.zip", files)).notes["bad rows"]
    assert (bad["count"], bad["of"], bad["kinds"]) == (9, 900, {"not a whole number": 6, "out of range": 3})
    places = [text.split(": ")[0] for text in bad["first"]]
    assert places == [
        f"{name}.csv line {n}"
        for name, n in zip(["AGENCY", "AGENCY", "AGENCY", "BELL", "BELL"], (3, 5, 8, 5, 9), strict=True)
    ]
    said = bad_rows_said(bad)
    assert said.startswith("9 of 900 rows left out as bad (6 not a whole number, 3 out of range): AGENCY.csv line 3: ")
    assert said.endswith(" and others")


@pytest.mark.parametrize(("bad", "refuses"), [(2, False), (3, True)])
def test_more_than_a_hundredth_of_a_files_rows_refuse_the_archive(tmp_path, bad, refuses):
    """Of a file, not of the archive: the other files are whole."""
    files = made(per=200)[0]
    for line in range(50, 50 + bad):
        files["BELL.csv"] = change(files["BELL.csv"], line, "r1c1", "?")
    path = pack(tmp_path / "fonts.zip", files)
    if refuses:
        message = refused(path, r"BELL\.csv: 3 of 200 rows are bad \(allowed: 1%\): BELL\.csv line 50: r1c1 is '\?'")
        assert str(path) in message
    else:
        assert opened(path).notes["bad rows"]["count"] == 2


def test_a_file_of_nothing_but_bad_rows(tmp_path):
    files = made(per=7)[0] | {"CUT.csv": HEADER + "\n" + "1,2,3\n" * 9}
    message = refused(pack(tmp_path / "fonts.zip", files), r"CUT\.csv: 9 of 9 rows are bad")
    assert message.endswith("; and 4 more")


def test_bad_rows_are_said_by_the_dry_run_and_kept_in_data_json(tmp_path, monkeypatch, capsys):
    files = made(("AGENCY", "BELL"), per=200)[0]
    files["BELL.csv"] = change(files["BELL.csv"], 9, "r0c0", "x")
    path = pack(tmp_path / "fonts.zip", files)
    content = {"name": "s", "dataset": {"name": "character-fonts", "root": str(path)}, "search": {"epochs": 1}}
    content |= {
        "arms": {"a": {"model": "mlp", "head_width": 4}, "b": {"model": "conv2"}},
        "baseline": {"batch_size": 16},
    }
    study = build_study(content | {"confirm": {"design": "arms", "seeds": 1}}, "s.yaml")
    monkeypatch.setenv("RESNETLAB_CACHE", str(tmp_path / "cache"))
    data._prepared.clear()
    dry_run(study, Options(str(tmp_path / "r")))
    said = "1 of 400 rows left out as bad (1 not a whole number): BELL.csv line 9: r0c0 is 'x', need a whole number"
    assert f"  {said}\n" in capsys.readouterr().out
    run_here(study, tmp_path / "r/s", tmp_path / "cache")
    kept = json.loads((tmp_path / "r/s/data.json").read_text())
    assert bad_rows_said(kept["bad_rows"]) == said


def test_missing_columns(tmp_path):
    files = made()[0]
    files["BELL.csv"] = files["BELL.csv"].replace("r7c7,", "rXcX,", 1)
    assert "BELL.csv: no column r7c7" in refused(pack(tmp_path / "fonts.zip", files), "no column")
    files["AGENCY.csv"] = "a,b,c\n1,2,3\n"
    message = refused(
        pack(tmp_path / "fonts.zip", files), "AGENCY.csv: no column font, m_label, h, w, r0c0 and 399 more"
    )
    with pytest.raises(BadData, match="no column font"):  # found before anything is decoded
        check(DataConfig(name="character-fonts", root=str(tmp_path / "fonts.zip")))
    assert message


def test_the_same_column_twice(tmp_path):
    files = made()[0]
    files["AGENCY.csv"] = files["AGENCY.csv"].replace("strength", "r0c0", 1)
    refused(pack(tmp_path / "fonts.zip", files), "two columns have one name")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98])
def test_a_truncated_archive(tmp_path, kept):
    path = pack(tmp_path / "fonts.zip", made()[0])
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw)) if isinstance(kept, float) else kept])
    assert "fonts.zip" in refused(path, "truncated, altered or not a zip archive")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.85])
def test_an_altered_archive(tmp_path, compression, place):
    """One digit of a stored file, or one byte of a compressed one: the checksum of the file does not fit."""
    path = pack(tmp_path / "fonts.zip", made()[0], compression)
    raw = bytearray(path.read_bytes())
    at = int(place * len(raw))
    while compression == zipfile.ZIP_STORED and chr(raw[at]) not in "012345678":
        at += 1
    raw[at] = raw[at] ^ 1 if compression == zipfile.ZIP_STORED else raw[at] ^ 0xFF
    path.write_bytes(raw)
    assert "fonts.zip" in refused(path, r"truncated, altered or not a zip archive|rows are bad")


@pytest.mark.parametrize("name", ["../AGENCY.csv", "/etc/AGENCY.csv", "a/../../b.csv", "C:/x.csv", "..\\x.csv"])
def test_names_that_lead_outside(tmp_path, name):
    path = pack(tmp_path / "fonts.zip", made()[0] | {name: "x"})
    refused(path, "refused: an archive of images has no file")


def test_a_bomb(tmp_path):
    path = pack(tmp_path / "fonts.zip", made()[0] | {"Z.csv": "0" * 50_000_000})
    refused(path, r"Z\.csv: refused: 50,000,000 bytes from [\d,]+ \(allowed: 200 times as many\)")


def test_a_line_without_an_end(tmp_path):
    text = HEADER + "\n" + "".join(map(str, np.random.default_rng(0).integers(0, 10, 200_000)))
    refused(pack(tmp_path / "fonts.zip", {"A.csv": text}), r"A\.csv line 2: more than 65,536 characters")


def test_other_archives(tmp_path):
    refused(tmp_path / "absent.zip", "is not a file: need the zip archive")
    refused(pack(tmp_path / "a.zip", {"x.txt": "hello"}), "no CSV file in it$")
    inner = BytesIO()
    pack(inner, made()[0])
    refused(
        pack(tmp_path / "b.zip", {"fonts.zip": inner.getvalue()}), r"no CSV file in it: unpack it and give fonts\.zip"
    )
    refused(pack(tmp_path / "c.zip", {"A.csv": HEADER + "\n"}), "its CSV files have no rows")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for _ in range(2):
            archive.writestr("A.csv", made()[0]["BELL.csv"])
    refused(tmp_path / "d.zip", "two files in it have one name")
    with pytest.raises(BadRequest, match=r"dataset\.label: 'letter' is not a label"):
        opened(tmp_path / "c.zip", label="letter")
    with pytest.raises(BadRequest, match=r"dataset\.variants"):
        opened(tmp_path / "c.zip", variants=3)


def test_memory_does_not_grow_with_the_archive(tmp_path, monkeypatch):
    """Peak of what Python and NumPy hold; the larger archive has 2,000 rows more (3 MB of text, 0.8 MB of pixels)."""
    monkeypatch.setattr("resnetlab.vision.data.character_fonts.ROWS", 128)
    header, rows = made(("A",), 500)[0]["A.csv"].split("\n", 1)
    peaks = []
    for name, copies in (("small", 2), ("large", 6)):
        path = pack(tmp_path / f"{name}.zip", {"A.csv": header + "\n" + rows * copies})
        source = CharacterFonts(DataConfig(name="character-fonts", root=str(path)), tmp_path)
        written = []
        tracemalloc.start()
        source.write(lambda images, written=written: written.append(len(images)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(written) == 500 * copies
    assert peaks[1] - peaks[0] < 3e5
