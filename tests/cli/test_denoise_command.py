"""``sparsact denoise``, in a process of its own and called directly."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib.figure import Figure
from PIL import Image

from noisy_files import call, noisy, scene, write_png
from sparsact._common.errors import InputError, OutputError

COMMAND = [sys.executable, "-m", "sparsact.cli", "denoise"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *flags],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_folder_goes_on_after_a_bad_file(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "clean" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.fromarray(scene()).save(tmp_path / "clean" / name)
        Image.fromarray(noisy(scene())).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:500])
    (tmp_path / "in" / "empty.tif").touch()
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    flags = ["in", "in/out", "--clean", "clean", "--compare", "pictures"]
    done = run(tmp_path, *flags)
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert errors[0].startswith("error: in/bad.png is not a readable PNG")
    assert errors[1] == "error: in/empty.tif is empty"
    assert errors[2] == "2 of 4 files failed"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert [line.split(":")[0] for line in lines] == ["in/out/a.png", "in/out/deep/b.png"]
    assert all("dB, SSIM" in line for line in lines)
    for name in ("a.png", "deep/b.png"):
        with Image.open(tmp_path / "pictures" / f"{name}.png") as picture:
            assert picture.width > 1000
    again = run(tmp_path, *flags)
    assert again.returncode == 1
    assert again.stderr.count("exists already") == 2
    assert run(tmp_path, *flags, "--force").stderr.splitlines() == errors


def test_clean_shows_the_quality_that_scikit_image_measures(tmp_path):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    clean, image = scene(3), noisy(scene(3))
    Image.fromarray(clean).save(tmp_path / "clean.png")
    Image.fromarray(image).save(tmp_path / "in.png")
    flags = ["--clean", "clean.png", "--compare", "picture.png"]
    done = run(tmp_path, "in.png", "out.png", *flags)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.strip()]
    psnr = peak_signal_noise_ratio(clean, image)
    ssim = structural_similarity(clean, image, channel_axis=-1)
    assert f"out.png: {psnr:.2f} dB, SSIM {ssim:.3f} → " in line
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_a_clean_original_in_other_units_is_refused(tmp_path):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    write_png(tmp_path / "deep.png", scene(top=65535))
    np.save(tmp_path / "share.npy", scene() / 255)
    np.save(tmp_path / "same.npy", scene())
    for name, units in (("deep.png", "uint16 over a range of 65535"), ("share.npy", "float64")):
        message = f"holds {units}, the noisy file uint8 over a range of 255"
        with pytest.raises(InputError, match=message):
            call(tmp_path / "in.png", tmp_path / "out.png", clean=str(tmp_path / name))
    assert call(tmp_path / "in.png", tmp_path / "out.png", clean=str(tmp_path / "same.npy")) == 0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(noisy(scene())).save(folder / "good.png")
    Image.fromarray(noisy(scene())[:20]).save(folder / "other.png")
    values = scene().astype(float)
    values[3, 5] = np.inf
    np.save(folder / "infinite.npy", values)
    (folder / "text.png").write_text("not a png")
    (folder / "text.wav").write_text("not a wav")
    (folder / "text.tif").write_text("not a tiff")
    (folder / "text.jpg").write_text("not a jpeg")
    (folder / "text.npy").write_text("not an array")
    Image.fromarray(scene()[:3, :3]).save(folder / "tiny.png")
    np.save(folder / "words.npy", np.array(["a", "b"]))
    Image.fromarray(scene() > 99).save(folder / "one.png")
    (folder / "empty").mkdir()
    (folder / "old.png").write_bytes(b"precious")
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("missing.png out.png", "no such file: missing.png"),
        ("text.png out.png", "text.png is not a readable PNG"),
        ("text.jpg out.jpg", "text.jpg is not a readable JPEG"),
        ("text.tif out.tif", "text.tif is not a readable TIFF"),
        ("text.wav out.wav", "text.wav is not a readable WAV"),
        ("text.npy out.npy", "text.npy is not a readable NPY"),
        ("words.npy out.npy", "expected an array of integers or floats"),
        ("infinite.npy out.npy", "infinite.npy holds inf at (3, 5)"),
        ("tiny.png out.png", "3×3 is smaller than the filter of db2"),
        ("one.png out.png", "1 bit per pixel"),
        ("empty out", "empty holds no"),
        ("good.png out.jpg", "out.jpg must end in .png"),
        ("good.png old.png", "old.png exists already; overwrite it with force=True"),
        ("good.png good.png", "good.png exists already"),
        ("good.png text.wav/out.png", "could not be written"),
        ("empty good.png", "must be one as well"),
        ("good.png out.png --wavelet db2x", "did you mean"),
        ("good.png out.png --threshold bays", "did you mean 'bayes'"),
        ("good.png out.png --threshold -1", "--threshold takes"),
        ("good.png out.png --shrink sotf", "did you mean 'soft'"),
        ("good.png out.png --sigma x", "--sigma takes"),
        ("good.png out.png --sigma 0", "--sigma takes"),
        ("good.png out.png --sigma nan", "--sigma takes"),
        ("good.png out.png --spins many", "--spins takes"),
        ("good.png out.png --levels 9", "levels=9 must be between 1 and 4"),
        (
            "good.png out.png --column mV",
            "column= is for NPZ, CSV, Excel files, and good.png",
        ),
        ("good.png out.png --dims 1", "NPY, NPZ files, and good.png is none"),
        ("good.png out.png --channel_dim 1", "channel_dim= is for NPY, NPZ files"),
        ("good.png out.png --noise poison", "did you mean 'poisson'"),
        ("good.png out.png --noise rician --sigma level", "sigma= must be a number"),
        ("good.png out.png --noise poisson --sigma 3", "sigma= does not go with Poisson"),
        ("good.png out.png --gain 2", "gain= is for noise=poisson"),
        ("good.png out.png --noise rician --offset 2", "offset= is for noise=poisson"),
        ("good.png out.png --noise poisson --gain -1", "gain= must be positive"),
        ("good.png out.png --noise poisson --read_noise -1", "read_noise= must be finite"),
        ("good.png out.png --border miror", "did you mean 'mirror'"),
        ("good.png out.png --compare out.jpg", "out.jpg must end in .png"),
        ("good.png out.png --clean other.png", "has the shape"),
        ("good.png out.png --clean missing.png", "missing.png cannot be read"),
    ],
)
def test_a_mistake_is_one_line(inputs, monkeypatch, flags, message):
    monkeypatch.chdir(inputs)
    source, target, *rest = flags.split()
    options = {rest[i].removeprefix("--"): rest[i + 1] for i in range(0, len(rest), 2)}
    for name in {"levels", "dims", "channel_dim"} & options.keys():
        options[name] = int(options[name])
    for name in {"gain", "offset", "read_noise", "nodata"} & options.keys():
        options[name] = float(options[name])
    before = sorted(path.name for path in inputs.rglob("*"))
    with pytest.raises((InputError, OutputError)) as caught:
        call(Path(source), Path(target), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in inputs.rglob("*")) == before
    assert (inputs / "old.png").read_bytes() == b"precious"


def test_a_folder_leaves_out_originals_and_hidden_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b/a.png", "clean/a.png", "clean/b/a.png", ".a.9.tmp.png", ".git/a.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(scene() if "clean" in name else noisy(scene())).save(path)
    assert call(Path(), Path("out"), clean="clean", compare="pictures") == 0
    assert call(Path(), Path("out"), clean="clean", compare="pictures", force=True) == 0
    written = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.*"))
    assert written == ["a.png", "b/a.png"]
    assert len([line for line in capsys.readouterr().out.splitlines() if "dB" in line]) == 4
    assert call(Path("b"), Path("b"), clean=".", force=True) == 0  # in its own place


@pytest.mark.parametrize("picture", ["out.png", "in.png", "clean.png", "deep/../out.png"])
def test_a_picture_does_not_replace_what_is_needed(tmp_path, picture):
    (tmp_path / "deep").mkdir()
    for name in ("in.png", "clean.png"):
        Image.fromarray(noisy(scene())).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
    flags = {"clean": str(tmp_path / "clean.png"), "force": True}
    with pytest.raises(InputError, match="would be written over another file of this run"):
        call(tmp_path / "in.png", tmp_path / "out.png", compare=str(tmp_path / picture), **flags)
    with pytest.raises(InputError, match="would be written over another file of this run"):
        call(tmp_path / "in.png", tmp_path / "clean.png", **flags)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.png")} == before
    assert call(tmp_path / "in.png", tmp_path / "in.png", **flags) == 0


def test_a_picture_into_a_folder(tmp_path):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    (tmp_path / "pictures").mkdir()
    picture = str(tmp_path / "pictures")
    assert call(tmp_path / "in.png", tmp_path / "out.png", compare=picture, force=True) == 0
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["in.png.png"]


def test_a_damaged_file_does_not_stop_a_folder(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "stream.tif", noisy(scene()), compression="zlib")
    write_png(tmp_path / "in" / "colour.png", noisy(scene(top=65535)))
    for name, place in (("stream.tif", slice(400, 440)), ("colour.png", slice(25, 26))):
        raw = bytearray((tmp_path / "in" / name).read_bytes())
        raw[place] = bytes([7] * len(raw[place]))
        (tmp_path / "in" / name).write_bytes(raw)
    (tmp_path / "in" / "bracket.npy").write_bytes(b"\x93NUMPY\x01\x00\x04\x00({[\n")
    Image.fromarray(noisy(scene())).save(tmp_path / "in" / "good.png")
    assert call(tmp_path / "in", tmp_path / "out") == 1
    done = capsys.readouterr()
    errors = done.err.splitlines()
    for line, words in zip(
        errors,
        ("bracket.npy is not a readable NPY", "colour.png is", "stream.tif is"),
        strict=False,
    ):
        assert words in line
    assert errors[3] == "3 of 4 files failed"
    assert (tmp_path / "out" / "good.png").exists()


@pytest.mark.parametrize("error", [struct.error, TypeError, MemoryError, NotImplementedError])
def test_any_exception_of_a_reader_is_one_line(tmp_path, monkeypatch, error):
    def stumble(path):
        raise error

    tifffile.imwrite(tmp_path / "in.tif", scene())
    monkeypatch.setattr(tifffile, "TiffFile", stumble)
    with pytest.raises(InputError, match=rf"in\.tif is not a readable TIFF: {error.__name__}"):
        call(tmp_path / "in.tif", tmp_path / "out.tif")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(13, "Permission denied")

    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"folder\.png cannot be read: Is a directory"):
        call(tmp_path / "in.png", tmp_path / "out.png", clean=str(tmp_path / "folder.png"))
    monkeypatch.setattr(Path, "read_bytes", forbid)
    with pytest.raises(InputError, match=r"in\.png cannot be read: Permission denied"):
        call(tmp_path / "in.png", tmp_path / "out.png")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["out.png", "--wavelet", "[/]db2"], "there is no discrete wavelet '[/]db2'"),
        (["old.png"], "old.png exists already; overwrite it with --force"),
        (["out.png", "--channel-dim", "1"], "--channel-dim is for NPY, NPZ files"),
    ],
)
def test_a_mistake_has_status_2(inputs, flags, message):
    done = run(inputs, "good.png", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    (tmp_path / "out.png").write_bytes(b"precious")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"out\.png could not be written \(No space left"):
        call(tmp_path / "in.png", tmp_path / "out.png", force=True)
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("b")])
def test_a_failed_picture_leaves_no_result(tmp_path, monkeypatch, error):
    def fail(figure, path, **options):
        path.write_bytes(b"half of it")
        raise error

    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OutputError, match=r"picture\.png could not be written \((No space|'b')"):
        call(tmp_path / "in.png", tmp_path / "out.png", compare=str(tmp_path / "picture.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_an_interrupt_leaves_complete_files_only(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(200):
        Image.fromarray(noisy(scene(3, size=(200, 200)))).save(tmp_path / "in" / f"{number}.png")
    process = subprocess.Popen(
        [*COMMAND, "in", "out"], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.png")) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    written = list((tmp_path / "out").iterdir())
    assert 1 <= len(written) < 200
    for path in written:
        with Image.open(path) as image:
            image.load()


def test_a_negative_dim_as_a_flag(tmp_path):
    np.save(tmp_path / "in.npy", np.random.default_rng(0).standard_normal((40, 50, 3)))
    done = run(tmp_path, "in.npy", "out.npy", "--channel-dim", "-1")
    assert done.returncode == 0, done.stderr


def test_help_names_every_flag():
    done = run(Path(), "--help")
    assert done.returncode == 0
    for flag in ("--sigma", "--compare", "--clean", "--force", "--column", "--spins"):
        assert flag in done.stdout
