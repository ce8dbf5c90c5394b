"""Folders of files: masks, several processes, and what an interruption leaves."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from noisy_files import call, noisy, scene
from sparsact._common.errors import InputError, OutputError
from sparsact.denoise import denoise_wavelet
from sparsact.denoise.files import disk_array

COMMAND = [sys.executable, "-m", "sparsact.cli", "denoise"]


def folder_of(path, count, size=(48, 56)):
    path.mkdir()
    for number in range(count):
        image = noisy(scene(size=size), 0.03 + 0.01 * number)
        Image.fromarray(image).save(path / f"{number:02}.png")
    return path


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_workers_write_the_same_files(tmp_path, capsys):
    folder = folder_of(tmp_path / "in", 3)
    (folder / "bad.png").write_bytes(b"bad")
    assert call(folder, tmp_path / "one") == 1
    one = capsys.readouterr()
    assert call(folder, tmp_path / "two", workers=2) == 1
    two = capsys.readouterr()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert two.out == one.out.replace("one", "two")
    assert two.err == one.err
    with pytest.raises(InputError, match="workers= must be positive"):
        call(folder, tmp_path / "three", workers=0)


def test_a_killed_run_is_resumed(tmp_path):
    folder = folder_of(tmp_path / "in", 12, size=(300, 300))
    assert call(folder, tmp_path / "whole", wavelet="haar") == 0
    assert not (tmp_path / "whole.unfinished").exists()
    flags = ["in", "out", "--wavelet", "haar", "--workers", "2"]
    process = subprocess.Popen([*COMMAND, *flags], cwd=tmp_path, start_new_session=True)
    until = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.png")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert (tmp_path / "out.unfinished").exists()
    time.sleep(0.2)  # the workers end
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="is of a run with other options"):
        call(folder, tmp_path / "out", wavelet="db2", resume=True)
    assert call(folder, tmp_path / "out", wavelet="haar", resume=True) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(before) < 12
    assert not (tmp_path / "out.unfinished").exists()


def test_a_resumed_run_overwrites_only_its_own(tmp_path, capsys):
    folder = folder_of(tmp_path / "in", 3)
    (folder / "03.png").write_bytes(b"bad")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00.png").write_bytes(b"precious")
    assert call(folder, tmp_path / "out") == 1
    Image.fromarray(noisy(scene())).save(folder / "03.png")
    changed = time.time_ns()
    assert call(folder, tmp_path / "out", resume=True) == 1
    assert capsys.readouterr().err.count("00.png exists already") == 2
    assert (tmp_path / "out" / "00.png").read_bytes() == b"precious"
    assert (tmp_path / "out" / "01.png").stat().st_mtime_ns < changed
    assert (tmp_path / "out" / "03.png").exists()


def test_resume_is_for_folders(tmp_path):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    with pytest.raises(InputError, match="resume= is for folders"):
        call(tmp_path / "in.png", tmp_path / "out.png", resume=True)


@pytest.mark.parametrize("kind", ["png", "one bit", "npy", "bool", "tif"])
def test_a_mask(tmp_path, kind, capsys):
    image = noisy(scene(3))
    valid = np.ones((48, 56), bool)
    valid[4:9, 7:20] = False
    tifffile.imwrite(tmp_path / "in.tif", image)
    mask = tmp_path / f"mask.{'png' if kind == 'one bit' else kind.replace('bool', 'npy')}"
    if kind == "tif":
        tifffile.imwrite(mask, valid.astype(np.uint8))
    elif kind in ("npy", "bool"):
        np.save(mask, valid if kind == "bool" else valid.astype(np.uint8))
    else:
        Image.fromarray(valid if kind == "one bit" else valid * np.uint8(255)).save(mask)
    picture = str(tmp_path / "picture.png")
    flags = {"mask": str(mask), "compare": picture}
    assert call(tmp_path / "in.tif", tmp_path / "out.tif", **flags) == 0
    expected = denoise_wavelet(image, channel_dim=2, mask=valid[..., None], cycle_spins="all")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)
    assert "195 missing values kept" in capsys.readouterr().out


def test_infinite_numbers_under_a_mask(tmp_path):
    image = noisy(scene()).astype(float)
    image[3:5, 6:9] = np.inf
    np.save(tmp_path / "in.npy", image)
    np.save(tmp_path / "mask.npy", np.isfinite(image))
    flags = {"mask": str(tmp_path / "mask.npy")}
    assert call(tmp_path / "in.npy", tmp_path / "out.npy", **flags) == 0
    result = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(np.isinf(result), np.isinf(image))
    image[20, 20] = -np.inf
    np.save(tmp_path / "in.npy", image)
    with pytest.raises(InputError, match=r"holds -inf at \(20, 20\)"):
        call(tmp_path / "in.npy", tmp_path / "new.npy", **flags)


def test_masks_of_a_folder_and_of_a_stack(tmp_path):
    folder = folder_of(tmp_path / "in", 2)
    masks = tmp_path / "in" / "masks"
    masks.mkdir()
    for number in range(2):
        valid = np.ones((48, 56), np.uint8)
        valid[number] = 0
        Image.fromarray(valid).save(masks / f"{number:02}.png")
    assert call(folder, tmp_path / "out", mask=str(masks)) == 0
    for number in range(2):
        before = np.asarray(Image.open(folder / f"{number:02}.png"))
        after = np.asarray(Image.open(tmp_path / "out" / f"{number:02}.png"))
        kept = (before == after).all(1)
        assert kept[number]
        assert not kept[2:].all()
    stack = np.stack([noisy(scene())] * 2)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack")
    valid = np.ones(stack.shape, bool)
    valid[1, 5] = False
    np.save(tmp_path / "mask.npy", valid)
    flags = {"mask": str(tmp_path / "mask.npy"), "dims": 3, "levels": 1, "wavelet": "haar"}
    assert call(tmp_path / "in.tif", tmp_path / "out.tif", **flags) == 0
    expected = denoise_wavelet(stack, "haar", 1, dims=3, mask=valid, cycle_spins="all")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)


def test_a_map_of_the_noise(tmp_path):
    sigma = np.linspace(4, 30, 56)[None].repeat(48, 0)
    image = scene() + sigma * np.random.default_rng(0).standard_normal((48, 56))
    np.save(tmp_path / "in.npy", image)
    tifffile.imwrite(tmp_path / "sigma.tif", sigma)
    flags = {"sigma": str(tmp_path / "sigma.tif")}
    assert call(tmp_path / "in.npy", tmp_path / "out.npy", **flags) == 0
    expected = denoise_wavelet(image, sigma=sigma, cycle_spins="all")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-9)


@pytest.mark.parametrize("flag", ["mask", "sigma"])
@pytest.mark.parametrize("shape", [(20, 56), (48,), (3, 48, 56), (1, 1), (56, 48)])
def test_a_mask_or_map_of_another_shape(tmp_path, flag, shape):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    np.save(tmp_path / "other.npy", np.ones(shape))
    with pytest.raises(InputError, match=r"other\.npy has the shape .* \(48, 56\)"):
        call(tmp_path / "in.png", tmp_path / "out.png", **{flag: str(tmp_path / "other.npy")})
    assert not (tmp_path / "out.png").exists()


def test_a_map_with_negative_entries_and_a_missing_mask(tmp_path):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    np.save(tmp_path / "map.npy", -np.ones((48, 56)))
    for flags, message in [
        ({"sigma": str(tmp_path / "map.npy")}, "negative or missing entries"),
        ({"sigma": str(tmp_path / "none.npy")}, r"none\.npy cannot be read"),
        ({"mask": str(tmp_path / "none.npy")}, r"none\.npy cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            call(tmp_path / "in.png", tmp_path / "out.png", **flags)


@pytest.mark.parametrize("name", ["a.tif", "a.wav", "a.npy"])
def test_large_files_are_cut_into_tiles(tmp_path, monkeypatch, name):
    import soundfile

    monkeypatch.setattr(disk_array, "LARGE", 1000)  # arrays on disk
    rng = np.random.default_rng(0)
    source, target = tmp_path / name, tmp_path / f"out{name[1:]}"
    if name == "a.wav":
        soundfile.write(source, 0.1 * rng.standard_normal((4000, 2)), 8000)
    elif name == "a.tif":
        tifffile.imwrite(source, noisy(scene(3)), photometric="rgb")
    else:
        np.save(source, scene() + 8.0 * rng.standard_normal((48, 56)))
    flags = {"threshold": "visu", "levels": 3}
    assert call(source, target, tile=32, **flags) == 0
    assert call(source, tmp_path / f"whole{name[1:]}", tile=0, **flags) == 0
    pair = []
    for path in (target, tmp_path / f"whole{name[1:]}"):
        if name == "a.wav":
            pair.append(soundfile.read(path)[0])
        else:
            pair.append(tifffile.imread(path) if name == "a.tif" else np.load(path))
    np.testing.assert_allclose(pair[0], pair[1], atol={"a.tif": 1, "a.wav": 1e-4}.get(name, 1e-9))


def test_what_tiles_do_not_take_is_said(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "in.tif", noisy(scene()))
    assert call(tmp_path / "in.tif", tmp_path / "out.tif", tile=32, border="periodic") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "denoised as a whole in memory, as tiles take no border=periodic" in said


def test_a_disk_that_is_full(tmp_path, monkeypatch, capsys):
    """Nothing half-written is left, and a resumed run ends the work."""

    def full(descriptor, start, size):
        raise OSError(28, "No space left on device")

    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        tifffile.imwrite(folder / f"{number}.tif", noisy(scene()))
    monkeypatch.setattr(disk_array, "LARGE", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(disk_array.os, "posix_fallocate", full)
        with pytest.raises(OutputError, match=r"could not be written \(No space left"):
            call(folder / "0.tif", tmp_path / "0.tif", tile=32)
        assert call(folder, tmp_path / "out", tile=32) == 1
    assert capsys.readouterr().err.count("No space left") == 2
    assert not list(tmp_path.rglob("out/*"))
    assert call(folder, tmp_path / "out", tile=32, resume=True) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.tif", "1.tif"]


def test_a_disk_with_a_limit(tmp_path):
    """The system ends the write of a file at a size that is too small for it."""
    tifffile.imwrite(tmp_path / "in.tif", np.stack([noisy(scene(), 0.05)] * 2), truncate=True,
                     photometric="minisblack")  # fmt: skip
    code = (
        "import resource, signal, sys\n"
        "from sparsact.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "sys.exit(main())"
    )
    arguments = [sys.executable, "-c", code, "denoise", "in.tif", "out.tif"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: out.tif could not be written (File too large)")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["in.tif"]
