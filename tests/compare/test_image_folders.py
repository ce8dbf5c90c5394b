"""Folders of images in the form that people have them, and the built-in networks."""

from pathlib import Path

import numpy as np
import png
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sparsact._common.errors import InputError
from sparsact._common.progress import silent
from sparsact.compare import CompareConfig, Comparison, load_model
from sparsact.compare.data import Dataset, load, split
from sparsact.compare.problems.networks import NetworkName, network_maker

RNG = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def grey(value: int = 0) -> np.ndarray:
    return np.full((4, 4), value, np.uint8)


def read(folder: Path) -> Dataset:
    return load(str(folder), None, 4)


def digits(folder: Path, parts: tuple[str, ...], samples: int = 300) -> None:
    """Digits as PNG files of 16 bits, in a folder per part and class."""
    data = load_digits()
    for i in range(samples):
        part = parts[(0, 0, 0, 1, 2)[i % 5]]
        pixels = (data.images[i] * 4095).astype(np.uint16)
        save(folder / part / str(data.target[i]) / f"{i:03}.png", pixels)


@pytest.mark.parametrize(
    "parts",
    [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "dev", "test")],
)
def test_folders_of_parts_are_the_split(tmp_path: Path, parts: tuple[str, ...]) -> None:
    digits(tmp_path, parts)
    dataset = load(str(tmp_path), None, 8)
    assert dataset.image_shape == (8, 8, 1)
    data = split(dataset, None)
    assert data.classes == tuple("0123456789")
    images, labels = load_digits(return_X_y=True)
    for i, part in enumerate((data.train, data.validation, data.test)):
        rows = [row for row in range(300) if (0, 0, 0, 1, 2)[row % 5] == i]
        order = np.lexsort((rows, labels[rows]))  # by class, then by name
        raw = part.x.double() * data.scale + data.mean
        np.testing.assert_allclose(raw, images[rows][order] * 4095 / 65535, atol=1e-5)
        assert part.y.tolist() == labels[rows][order].tolist()


def test_a_part_is_made_where_there_are_two(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 5)):
        for label in "ab":
            for i in range(count):
                save(tmp_path / part / label / f"{i}.png", RNG.integers(0, 255, (4, 4), np.uint8))
    data = split(read(tmp_path), None)
    assert [len(part.x) for part in (data.train, data.validation, data.test)] == [30, 10, 10]
    assert data.classes == ("a", "b")


def test_a_test_folder_without_classes_is_left_out(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "test" / f"{i}.png", grey(i))
        for label in "ab":
            save(tmp_path / "train" / label / f"{i}.png", grey(i))
    dataset = read(tmp_path)
    assert len(dataset.x) == 10
    assert "images without a folder of a class are left out: 5 of the test part" in dataset.notes


def test_classes_that_are_called_like_a_part(tmp_path: Path) -> None:
    for label in ("train", "plane", "car"):
        save(tmp_path / label / "a.png", grey())
    dataset = read(tmp_path)
    assert dataset.y is not None
    assert dataset.y.tolist() == ["car", "plane", "train"]
    assert dataset.parts is None


@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
def test_whole_numbers_are_scaled_by_their_range(tmp_path: Path, dtype: type) -> None:
    top = 255 if dtype == np.uint8 else 65535
    pixels = RNG.integers(0, top, (6, 4, 4)).astype(dtype)
    for i, image in enumerate(pixels):
        save(tmp_path / f"{i}.{'tif' if i % 2 else 'png'}", image)
    np.testing.assert_allclose(read(tmp_path).x, pixels.reshape(6, -1) / top, rtol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 65000.0), (1e-6, 2e-6), (0.0, 1.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_floats_are_scaled_by_the_range_of_the_training_part(
    tmp_path: Path, low: float, high: float, dtype: type
) -> None:
    if dtype == np.int32:
        low, high = low * 1e6, high * 1e3 + 9
    pixels = RNG.uniform(low, high, (6, 4, 4)).astype(dtype)
    for i, image in enumerate(pixels):
        save(tmp_path / ("train" if i < 4 else "test") / f"{i}.tif", image)
    dataset = read(tmp_path)
    own = dataset.x[[*range(2, 6), *range(2)]]  # the folder test/ comes first
    known = pixels[:4]
    if dtype == np.float32 and high <= 1:
        wanted = pixels
    else:
        wanted = (pixels - known.min()) / (known.max() - known.min())
        assert any(note.startswith("images of floats or 32-bit") for note in dataset.notes)
    np.testing.assert_allclose(own, wanted.reshape(6, -1), atol=1e-6)


def test_colours_of_16_bits(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65535, (4, 4, 3)).astype(np.uint16)
    with (tmp_path / "a.png").open("wb") as file:
        png.Writer(4, 4, greyscale=False, bitdepth=16).write(file, pixels.reshape(4, -1).tolist())
    dataset = read(tmp_path)
    np.testing.assert_allclose(dataset.x[0], pixels.ravel() / 65535, atol=1 / 255)
    assert "colour images with 16 bits are reduced to 8 bits: 1" in dataset.notes


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_cannot_be_told_from_its_hidden_colour(
    tmp_path: Path, mode: str
) -> None:
    for i, hidden in enumerate([(255, 0, 0), (0, 0, 255)]):
        pixels = np.full((4, 4, 4), 255, np.uint8)
        pixels[:2] = (*hidden, 0)
        image = Image.fromarray(pixels)
        if mode == "P":
            image = image.convert("P")
            image.info["transparency"] = image.getpixel((0, 0))
        else:
            image = image.convert(mode)
        image.save(tmp_path / f"{i}.png")
    dataset = read(tmp_path)
    assert dataset.image_shape == (4, 4, 2)
    np.testing.assert_array_equal(dataset.x[0], dataset.x[1])
    assert dataset.x[0].reshape(4, 4, 2)[:2].max() == 0
    assert dataset.x[0].reshape(4, 4, 2)[2:].min() == 1
    assert any("transparent pixels" in note for note in dataset.notes)


def test_an_alpha_channel_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (4, 4, 4), np.uint8)
    pixels[..., 3] = 255
    save(tmp_path / "a.png", pixels)
    dataset = read(tmp_path)
    assert dataset.image_shape == (4, 4, 3)
    np.testing.assert_allclose(dataset.x[0].reshape(4, 4, 3), pixels[..., :3] / 255, rtol=1e-6)


def test_hidden_foreign_and_corrupt_files(tmp_path: Path) -> None:
    for label in "ab":
        for i in range(4):
            save(tmp_path / label / f"{i}.png", grey(i * 50))
    (tmp_path / "a" / "._0.png").write_bytes(b"mac")
    (tmp_path / ".cache").mkdir()
    save(tmp_path / ".cache" / "x.png", grey())
    save(tmp_path / "__MACOSX" / "a" / "0.png", grey())
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"db")
    (tmp_path / "labels.csv").write_text("x")
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes(whole[:50])
    save(tmp_path / "montage.png", grey())
    dataset = read(tmp_path)
    assert dataset.y is not None
    assert dataset.y.tolist() == ["a"] * 3 + ["b"] * 4
    notes = "\n".join(dataset.notes)
    assert "files that are no images are left out: 2, such as a/Thumbs.db" in notes
    assert "a/1.png is not a readable image" in notes
    assert "images that are in no folder of a class are left out: 1, such as montage.png" in notes


@pytest.mark.parametrize("damage", ["text", "cut", "nan", "header"])
def test_one_corrupt_file_is_left_out_by_name(tmp_path: Path, damage: str) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.tif", RNG.uniform(0, 1, (4, 4)).astype(np.float32))
    bad = tmp_path / "2.tif"
    whole = bad.read_bytes()
    if damage == "nan":
        save(bad, np.full((4, 4), np.nan, np.float32))
    else:
        bad.write_bytes({"text": b"text", "cut": whole[:-40], "header": whole[:9]}[damage])
    dataset = read(tmp_path)
    assert len(dataset.x) == 3
    assert any(f"{bad} is not a readable image" in note for note in dataset.notes)


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0] = 255
    tags = Image.Exif()
    tags[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=tags)
    own = read(tmp_path).x.reshape(4, 4)
    assert own[3].min() == 1
    assert own[:3].max() == 0


def test_files_with_several_images(tmp_path: Path) -> None:
    first, second = (Image.fromarray(grey(value)) for value in (255, 0))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    dataset = read(tmp_path)
    assert dataset.x.min() == 1
    assert "files with several images, of which the first is used: 1" in dataset.notes


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", None),
        ("resnet", None),
        ("transformer", None),
        *((name, shape) for name in ("mlp", "convnet", "resnet", "transformer")
          for shape in ((8, 8, 1), (32, 20, 3), (3, 5, 2), (1, 1, 1))),
    ],
)  # fmt: skip
def test_built_in_networks(name: NetworkName, shape: tuple[int, int, int] | None) -> None:
    inputs = 7 if shape is None else int(np.prod(shape))
    make = network_maker(name, inputs, (32, 16), 3, shape)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make())
    x = torch.randn(5, inputs)
    output = models[0](x)
    assert output.shape == (5, 3)
    assert torch.equal(output, models[1](x))
    output.sum().backward()
    assert all(p.grad is not None for p in models[0].parameters())
    torch.testing.assert_close(models[0](x[:1]), output[:1])  # samples do not mix


def test_an_image_reaches_the_convolution_as_it_is() -> None:
    pixels = torch.randn(2, 5, 6, 3)
    model = network_maker("convnet", 90, (8,), 2, (5, 6, 3))()
    first = torch.nn.functional.conv2d(
        pixels.permute(0, 3, 1, 2), model.conv1.weight, model.conv1.bias, padding=1
    )
    torch.testing.assert_close(model[:2](pixels.flatten(1)), first)


def test_a_convnet_needs_images() -> None:
    with pytest.raises(InputError, match="model=convnet needs images"):
        network_maker("convnet", 9, (8,), 2)


@pytest.mark.parametrize("model", ["auto", "resnet", "transformer"])
def test_networks_learn_and_are_saved(tmp_path: Path, model: str) -> None:
    digits(tmp_path / "png", ("train", "val", "test"))
    config = CompareConfig(
        str(tmp_path / "png"), model=model, activations="learned_jumprelu", hidden="32",
        image_size=8, lambd=0.1, epochs=15 if model == "auto" else 1, lr=5e-3, seeds=1,
        tolerance=1.0, out=str(tmp_path / "run"),
    )  # fmt: skip
    comparison = Comparison(config)
    outcome = comparison.execute(silent)
    (picked,) = (row for row in outcome.report.rows if row.picked)
    saved = load_model(outcome.path / "model.safetensors")
    assert saved.description["network"] == ("convnet" if model == "auto" else model)
    data = comparison.data
    raw = data.test.x.double() * data.scale + data.mean
    with torch.no_grad():
        accuracy = float((saved(raw).argmax(1) == data.test.y).double().mean())
    assert picked.score is not None
    assert accuracy == pytest.approx(picked.score.mean, abs=1.5 / len(raw))
    if model == "auto":
        assert accuracy > 0.5
