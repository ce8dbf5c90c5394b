"""Files of each field: the numbers are denoised, and everything else is kept."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from field_files import CLEAN, IMAGES, SIGNALS, TONE
from noisy_files import call, error, noisy, scene
from sparsact._common.errors import InputError, MissingExtraError
from sparsact.denoise import denoise_wavelet
from sparsact.denoise.files import FORMATS, SUFFIXES

SCRIPTS = Path(__file__).parents[2] / "scripts"
FILES = {**IMAGES, **SIGNALS}
# and other names of a format that is tested
TESTED_ELSEWHERE = {".png", ".jpg", ".jpeg", ".tiff", ".wav", ".npy", ".csv", ".fit", ".fts"}
TESTED_ELSEWHERE |= {".dicom", ".rf64", ".bwf", ".oga", ".opus", ".aif", ".ppm", ".pnm"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_keeps_everything_but_its_noise(tmp_path, name):
    read = FILES[name](tmp_path / name)
    is_table = name.endswith(("tsv", "xlsx"))
    flags = {"column": "1"} if is_table else {}
    if name in SIGNALS:
        flags |= {"wavelet": "sym8", "levels": 4}
    target = tmp_path / f"out{name[name.index('.') :]}"
    assert call(tmp_path / name, target, **flags) == 0
    (before, head), (after, head_after) = read(tmp_path / name), read(target)
    np.testing.assert_equal(head_after, head)
    clean = CLEAN if name in IMAGES else TONE
    assert error(after, clean) < 0.6 * error(before, clean)


def test_the_table_in_the_documentation_names_every_format(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from docs_formats import format_table

    rows = format_table().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {known.name}" for known in FORMATS]
    assert all(row.count("|") == 7 for row in rows)
    assert {suffix for suffix in SUFFIXES if suffix not in TESTED_ELSEWHERE} <= {
        name[name.index(".") :] if not name.endswith(".ome.tif") else ".tif" for name in FILES
    }


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.fits", "astropy", "astronomy"), ("a.nii.gz", "nibabel", "medical"),
     ("a.dcm", "pydicom", "medical"), ("a.xlsx", "openpyxl", "tables"),
     ("a.flac", "soundfile", "denoise"), ("a.bmp", "PIL", "denoise")],
)  # fmt: skip
def test_a_missing_library_is_one_line(tmp_path, monkeypatch, name, module, extra):
    (tmp_path / name).write_bytes(b"\0" * 9000)
    for known in [known for known in sys.modules if known.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setattr(sys, "meta_path", [Without(module), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=rf"pip install 'sparsact\[{extra}\]'$") as caught:
        call(tmp_path / name, tmp_path / f"out{name[1:]}")
    assert "\n" not in str(caught.value)


class Without:
    """A finder that does not find a package."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"no module {name}", name=name)


def hyperstack(path):
    times = [np.stack([noisy(scene(), 0.1), noisy(scene(), 0.05)])[None] for _ in range(2)]
    values = np.concatenate([np.stack([t] * 17, 1) for t in times])  # time, z, channel: below
    values = values.reshape(2, 17, 2, 48, 56)
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": "TZCYX"})
    return values


def test_a_hyperstack_as_volumes(tmp_path):
    values = hyperstack(tmp_path / "in.tif")
    assert call(tmp_path / "in.tif", tmp_path / "out.tif", dims=3, levels=1) == 0
    volumes = values.transpose(0, 2, 1, 3, 4)  # the slices next to the images
    expected = denoise_wavelet(volumes, levels=1, dims=3, cycle_spins="all")
    result = tifffile.imread(tmp_path / "out.tif")
    np.testing.assert_array_equal(result.transpose(0, 2, 1, 3, 4), expected)
    for dims in (1, 2):
        assert call(tmp_path / "in.tif", tmp_path / f"{dims}.tif", dims=dims, levels=1) == 0
        expected = denoise_wavelet(values, levels=1, dims=dims, cycle_spins="all")
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{dims}.tif"), expected)


def test_a_stack_of_colours_in_a_single_directory(tmp_path):
    stack = np.stack([noisy(scene(3), share) for share in (0.05, 0.1)])
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="rgb", truncate=True)
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    expected = denoise_wavelet(stack, channel_dim=3, cycle_spins="all")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)
    deep = {"photometric": "minisblack", "truncate": True, "compression": "zlib"}
    with pytest.raises(ValueError, match="truncate"):  # tifffile does not write these
        tifffile.imwrite(tmp_path / "packed.tif", stack[..., 0], **deep)


@pytest.mark.parametrize("name", ["single.tif", "in.gif", "in.ome.tif"])
def test_a_stack_as_a_volume(tmp_path, name):
    FILES[name](tmp_path / name)
    target = tmp_path / f"out{name[name.index('.') :]}"
    assert call(tmp_path / name, target, dims=3, levels=1, wavelet="haar") == 0
    if name != "in.gif":
        stack = tifffile.imread(tmp_path / name)
        expected = denoise_wavelet(stack, "haar", levels=1, dims=3, cycle_spins="all")
        np.testing.assert_array_equal(tifffile.imread(target), expected)


def test_one_image_is_no_volume(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", noisy(scene()))
    with pytest.raises(InputError, match="dims=3 needs several images of one shape"):
        call(tmp_path / "in.tif", tmp_path / "out.tif", dims=3)


CUT = {
    "imagej.tif": 0.5, "single.tif": 0.9, "in.ome.tif": 0.6, "in.fits": 0.3, "in.nii": 0.5,
    "in.nii.gz": 0.5, "in.dcm": 0.5, "in.pgm": 0.5, "in.gif": 0.5, "animated.webp": 0.5,
    "animated.png": 0.5, "in.mpo": 0.8, "in.flac": 0.5, "in.npz": 0.5, "in.xlsx": 0.5,
    "text.pgm": 0.5, "in.bmp": 0.5, "in.tga": 0.5, "rf64.wav": 0.5, "in.aiff": 0.5,
    "in.ogg": 0.7,
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_file_that_is_cut_off_is_one_line(tmp_path, name):
    FILES[name](tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: int(CUT[name] * len(raw))])
    with pytest.raises(InputError, match="is not a readable") as caught:
        call(tmp_path / name, tmp_path / f"out{name[name.index('.') :]}")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


TABLES = {
    "names that are numbers": ("3,2,1", "2", 1),
    "wavelengths": ("400,500,600", "600", 2),
    "as pandas counts": ("0,1,2", "2", 2),
    "text and numbers": ("time,2,3", "2", 1),
    "an index without a name": (",2,3", "3", 2),
}


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_the_header_of_a_table_is_never_data(tmp_path, case, separator):
    header, column, place = TABLES[case]
    header = header.replace(",", separator)
    rng = np.random.default_rng(0)
    values = np.repeat([0.0, 1.0, 0.5, 2.0], 64)[:, None] + 0.1 * rng.standard_normal((256, 3))
    lines = [separator.join(map(repr, row)) for row in values.tolist()]
    (tmp_path / "in.csv").write_text("\n".join([header, *lines]))
    assert call(tmp_path / "in.csv", tmp_path / "out.csv", column=column) == 0
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == header
    result = np.array([[float(cell) for cell in row.split(separator)] for row in rows[1:]])
    changed = [not np.array_equal(result[:, i], values[:, i]) for i in range(3)]
    assert changed == [i == place for i in range(3)]


@pytest.mark.parametrize("header", ["400,500,600", "0,1,2", "time,2,3"])
def test_a_number_is_no_place_below_a_header(tmp_path, header):
    rows = [f"{value},{value + 1},{value + 2}" for value in np.arange(99) / 8]
    (tmp_path / "in.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(InputError, match="has no column '9'; it has "):
        call(tmp_path / "in.csv", tmp_path / "out.csv", column="9")
    with pytest.raises(InputError, match=f"choose a column= from {header.replace(',', ', ')}"):
        call(tmp_path / "in.csv", tmp_path / "out.csv")


def test_empty_cells_are_missing(tmp_path, capsys):
    values = np.random.default_rng(0).standard_normal(99)
    cells = [repr(value) for value in values.tolist()]
    cells[7] = ""
    (tmp_path / "in.csv").write_text("\n".join(["x,y", *(f"{cell},1" for cell in cells)]))
    assert call(tmp_path / "in.csv", tmp_path / "out.csv", column="x") == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[8] == ",1"
    assert "1 missing values kept" in capsys.readouterr().out


def test_several_arrays_need_a_choice(tmp_path):
    np.savez(tmp_path / "in.npz", a=np.arange(99.0), b=np.arange(99.0))
    with pytest.raises(InputError, match="choose a column= from a, b"):
        call(tmp_path / "in.npz", tmp_path / "out.npz")
    with pytest.raises(InputError, match="has no array 'c'"):
        call(tmp_path / "in.npz", tmp_path / "out.npz", column="c")
    assert call(tmp_path / "in.npz", tmp_path / "out.npz", column="b") == 0


def test_what_is_lost_is_said(tmp_path, capsys):
    for name, words in {
        "in.gif": "not kept: more than 256 colours",
        "in.ogg": "coded again, which loses detail",
        "in.mpo": "not kept: the kinds of its images",
        "in.fits": "left as they are: DQ",
        "in.dcm": "a new SOPInstanceUID",
    }.items():
        FILES[name](tmp_path / name)
        assert call(tmp_path / name, tmp_path / f"out{name[2:]}") == 0
        assert words in " ".join(capsys.readouterr().out.split())


def test_a_compressed_dicom_of_frames_is_written_without_compression(tmp_path, capsys):
    pydicom = pytest.importorskip("pydicom")
    FILES["in.dcm"](tmp_path / "in.dcm")
    data = pydicom.dcmread(tmp_path / "in.dcm")
    frames = np.stack([data.pixel_array] * 17)
    data.NumberOfFrames, data.PixelData = 17, frames.tobytes()
    data.compress(pydicom.uid.RLELossless)
    data.save_as(tmp_path / "in.dcm")
    assert call(tmp_path / "in.dcm", tmp_path / "out.dcm", dims=3, levels=1) == 0
    expected = denoise_wavelet(frames * 0.5 - 100, levels=1, dims=3, cycle_spins="all")
    result = pydicom.dcmread(tmp_path / "out.dcm")
    np.testing.assert_allclose(result.pixel_array * 0.5 - 100, expected, atol=0.2501)
    assert "written without its compression (RLE Lossless)" in capsys.readouterr().out


@pytest.mark.parametrize(("element", "value", "message"), [
    ("PhotometricInterpretation", "PALETTE COLOR", "is in PALETTE COLOR"),
    ("PixelData", None, "holds no pixels"),
])  # fmt: skip
def test_dicoms_without_grey_or_rgb_are_refused(tmp_path, element, value, message):
    pydicom = pytest.importorskip("pydicom")
    FILES["in.dcm"](tmp_path / "in.dcm")
    data = pydicom.dcmread(tmp_path / "in.dcm")
    if value is None:
        del data[element]
    else:
        setattr(data, element, value)
    data.save_as(tmp_path / "in.dcm")
    with pytest.raises(InputError, match=message):
        call(tmp_path / "in.dcm", tmp_path / "out.dcm")


def test_images_of_different_sizes_in_an_mpo(tmp_path):
    first, second = Image.fromarray(noisy(scene())), Image.fromarray(noisy(scene(size=(64, 40))))
    first.save(tmp_path / "in.jpg", format="MPO", save_all=True, append_images=[second])
    assert call(tmp_path / "in.jpg", tmp_path / "out.jpg") == 0
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (56, 48)
        image.seek(1)
        assert image.size == (40, 64)
        assert error(np.asarray(image), scene(size=(64, 40))) < 250


def test_an_image_with_several_extensions_and_no_image(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)
    cube = rng.standard_normal((17, 20, 24)).astype(">f4")
    cube[3, 4, 5] = np.nan
    units = [fits.PrimaryHDU(), fits.ImageHDU(cube), fits.ImageHDU(np.float64(cube[0]))]
    fits.HDUList(units).writeto(tmp_path / "in.fits")
    assert call(tmp_path / "in.fits", tmp_path / "out.fits") == 0
    with fits.open(tmp_path / "out.fits") as file:
        expected = denoise_wavelet(cube.astype(np.float32), cycle_spins="all")
        np.testing.assert_allclose(file[1].data, expected, atol=1e-6)
        assert file[2].data.std() < 0.4
    fits.HDUList(units[:2]).writeto(tmp_path / "cube.fits")
    assert call(tmp_path / "cube.fits", tmp_path / "volume.fits", dims=3, levels=1) == 0
    with fits.open(tmp_path / "volume.fits") as file:
        options = {"levels": 1, "dims": 3, "cycle_spins": "all"}
        expected = denoise_wavelet(cube.astype(np.float32), **options)
        np.testing.assert_allclose(file[1].data, expected, atol=1e-6)
    fits.PrimaryHDU().writeto(tmp_path / "none.fits")
    with pytest.raises(InputError, match="holds no image"):
        call(tmp_path / "none.fits", tmp_path / "new.fits")


def test_overlays_and_tables_of_colours_of_imagej_are_kept(tmp_path, capsys):
    stack = np.stack([noisy(scene())] * 3)
    table = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    metadata = {"axes": "CYX", "LUTs": [table] * 3, "Ranges": (0.0, 9.0) * 3, "ROI": b"Iout1234"}
    metadata |= {"Overlays": [b"one", b"three"], "Labels": ["a", "b", "c"], "Info": "a note"}
    tifffile.imwrite(tmp_path / "in.tif", stack, imagej=True, metadata=metadata)
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    found = []
    for name in ("in", "out"):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            found.append(file.imagej_metadata)
    np.testing.assert_equal(found[1], found[0])
    assert found[1]["Overlays"] == [b"one", b"three"]
    assert "not kept" not in capsys.readouterr().out


def test_a_lost_directory_palette_or_chunk_is_said(tmp_path, capsys):
    image = Image.fromarray(noisy(scene(3)))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[34665] = {0x829A: 0.5}  # the exposure
    image.save(tmp_path / "exif.tif", tiffinfo=tags)
    image.quantize(16).save(tmp_path / "a.png")
    image.quantize(16).save(tmp_path / "a.bmp")
    Image.fromarray(noisy(scene())).save(tmp_path / "lossy.webp")
    FILES["in.aiff"](tmp_path / "a.aiff")
    raw = (tmp_path / "a.aiff").read_bytes() + b"MARK" + (4).to_bytes(4, "big") + b"\0" * 4
    size = (len(raw) - 8).to_bytes(4, "big")
    (tmp_path / "a.aiff").write_bytes(raw[:4] + size + raw[8:])
    for name, words in {
        "exif.tif": "not kept: EXIF",
        "a.png": "not kept: the palette",
        "a.bmp": "not kept: the palette",
        "lossy.webp": "coded without loss",
        "a.aiff": "not kept: the chunks MARK",
    }.items():
        assert call(tmp_path / name, tmp_path / f"out{name[name.index('.') :]}", force=True) == 0
        assert words in " ".join(capsys.readouterr().out.split()), name
