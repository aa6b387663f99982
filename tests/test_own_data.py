import dataclasses
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from aevb import datasets, own_data
from aevb.data import DataError
from aevb.datasets import BERNOULLI, DATASETS, GAUSSIAN, Dataset, Splits
from aevb.fit import fit
from aevb.measures import MEASURES
from aevb.trainer import Trainer
from tests.runs import RUN, each_algorithm

pytestmark = pytest.mark.usefixtures("forgotten")

UNREADABLE = "cannot be read as a picture: repair it, save it as .png or remove it"


def stripes(n: int, dtype: type = np.uint8) -> np.ndarray:
    """Images of 4 x 6 with one bright column each, `(n, 4, 6)`."""
    images = np.zeros((n, 4, 6), dtype)
    images[np.arange(n), :, np.arange(n) % 6] = 200 if dtype == np.uint8 else 0.75
    return images


def saved(folder, **arrays):
    np.savez(folder / "stripes.npz", **arrays)
    return folder / "stripes.npz"


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        own_data.describe(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# reading


def test_the_splits_of_an_npz_are_those_it_names(tmp_path):
    train, valid, test = stripes(12), stripes(5), stripes(7)
    dataset = own_data.describe(saved(tmp_path, train=train, valid=valid, test=test))
    datasets.add(dataset)
    images = datasets.load(dataset.name)
    assert (dataset.title, dataset.image_shape, dataset.scale) == ("stripes", (4, 6), 255.0)
    for mine, theirs in ((images.train, train), (images.valid, valid), (images.test, test)):
        assert np.array_equal(mine.numpy(), theirs.reshape(-1, 24))
    assert images.unit(images.train).max().item() == pytest.approx(200 / 255)


def test_every_tenth_image_of_a_single_array_is_held_out(tmp_path):
    images = stripes(25)
    splits = own_data.describe(saved(tmp_path, anything=images)).read()
    assert np.array_equal(splits.test.numpy(), images[[9, 19]].reshape(2, 24))
    assert np.array_equal(splits.train.numpy(), np.delete(images, [9, 19], axis=0).reshape(23, 24))


@pytest.mark.parametrize(
    ("images", "scale"),
    [
        (stripes(20), 255.0),
        (stripes(20, np.float64), 1.0),
        (stripes(20) > 0, 1.0),
        (stripes(20).astype(np.int64), 255.0),
    ],
)
def test_whatever_holds_the_grey_levels_they_end_between_zero_and_one(tmp_path, images, scale):
    dataset = own_data.describe(saved(tmp_path, train=images))
    datasets.add(dataset)
    loaded = datasets.load(dataset.name)
    assert dataset.scale == scale
    grey = torch.from_numpy(images.reshape(-1, 24).astype(np.float64) / scale)
    assert torch.allclose(loaded.unit(loaded.test).double(), grey[9::10], atol=1e-7)


def test_a_folder_of_pictures_is_read_in_the_order_of_names_as_grey(tmp_path):
    for number, image in enumerate(stripes(20)):
        colours = np.stack([image] * 3, axis=-1)
        Image.fromarray(colours if number % 2 else image).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    splits = own_data.describe(tmp_path).read()
    assert np.array_equal(splits.test.numpy(), stripes(20)[9::10].reshape(2, 24))


@pytest.mark.parametrize("suffix", ["pgm", "PPM", "bmp", "webp", "tif", "tga", "jp2"])
def test_whatever_pillow_reads_is_a_picture(tmp_path, suffix):
    for number, image in enumerate(stripes(10)):
        Image.fromarray(image).save(tmp_path / f"{number}.{suffix}", lossless=True)
    assert np.array_equal(own_data.describe(tmp_path).read().test.reshape(4, 6), stripes(10)[9])


@pytest.mark.parametrize("name", ["photograph.heic", "drawing.svg"])
def test_a_picture_that_pillow_does_not_read_is_named(tmp_path, name):
    pictures(tmp_path, 10)
    (tmp_path / name).write_bytes(b"not for Pillow")
    assert refusal(tmp_path) == f"{tmp_path / name} {UNREADABLE}"


def test_folders_called_train_and_test_are_the_splits(tmp_path):
    for split, count in (("train", 4), ("test", 3)):
        (tmp_path / split).mkdir()
        for number, image in enumerate(stripes(count)):
            Image.fromarray(image).save(tmp_path / split / f"{number}.bmp")
    splits = own_data.describe(tmp_path).read()
    assert [len(split) for split in splits[:3]] == [4, 0, 3]


def pictures(folder, count=4):
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(stripes(count)):
        Image.fromarray(image).save(folder / f"{number}.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_read_upright(tmp_path, orientation):
    """As a camera says which side is up: a viewer shows these two alike."""
    turned = Image.new("L", (6, 4))
    turned.putpixel((5, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        turned.save(tmp_path / split / "0.png", exif=exif)
    upright = {1: (0, 5), 2: (0, 0), 3: (3, 0), 4: (3, 5), 5: (5, 0), 6: (5, 3), 7: (0, 3), 8: (0, 0)}
    dataset = own_data.describe(tmp_path)
    assert dataset.image_shape == ((4, 6) if orientation < 5 else (6, 4))
    assert np.argwhere(dataset.read().train.reshape(dataset.image_shape).numpy()).tolist() == [[*upright[orientation]]]


def test_another_scale_or_likelihood_is_another_dataset(tmp_path):
    """Its runs are others, and must not go on from these checkpoints."""
    path = saved(tmp_path, train=stripes(20))
    others = [
        own_data.describe(path, likelihood=likelihood, scale=scale)
        for likelihood in (BERNOULLI, GAUSSIAN)
        for scale in (255.0, 256.0)
    ]
    assert len({dataset.name for dataset in others}) == 4


def test_other_pixels_are_another_dataset(tmp_path):
    first = own_data.describe(saved(tmp_path, train=stripes(20)))
    assert own_data.describe(saved(tmp_path, train=stripes(20))) == first
    second = own_data.describe(saved(tmp_path, train=stripes(20)[::-1]))
    assert second.name != first.name
    with pytest.raises(DataError, match="has changed since it was described: describe it again"):
        first.read()


def test_the_same_pixels_may_be_added_again(tmp_path):
    """As in a cell that is run again, under another title, or from another folder."""
    first = own_data.describe(saved(tmp_path, train=stripes(20)))
    (tmp_path / "elsewhere").mkdir()
    second = own_data.describe(saved(tmp_path / "elsewhere", train=stripes(20)), title="Stripes", light=True)
    for dataset in (first, second, described(), described()):
        datasets.add(dataset)
    assert datasets.get(first.name).title == "Stripes"


def test_the_brightest_split_decides_the_scale_and_a_dark_one_is_a_warning(tmp_path, caplog):
    assert own_data.describe(saved(tmp_path, train=stripes(20) // 200, test=stripes(5))).scale == 255
    assert not caplog.text
    assert own_data.describe(saved(tmp_path, train=stripes(20) // 20)).scale == 255
    assert "the brightest value is 10; where that is white, say scale=10" in caplog.text


def test_a_name_is_fit_for_a_file(tmp_path):
    path = tmp_path / f"{'a b' * 60}.npz"
    np.savez(path, stripes(20))
    assert own_data.describe(path).name.startswith("a-ba-ba-b")
    assert len(own_data.describe(path).name) < 80


# refusals


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train": np.zeros((20, 24))}, "shape (20, 24): images are (N, height, width)"),
        ({"train": np.zeros((20, 4, 6, 3))}, "shape (20, 4, 6, 3): images are (N, height, width), in grey"),
        ({"train": np.zeros((0, 4, 6)), "test": np.zeros((3, 4, 6))}, "shape (0, 4, 6)"),
        ({"train": np.zeros((5, 4, 6))}, "5 images, too few to hold out one in 10: add a split called test"),
        ({"train": np.full((20, 4, 6), 256)}, "whole numbers from 256 to 256: they go from 0 to 255"),
        ({"train": np.full((20, 4, 6), -1)}, "whole numbers from -1 to -1: they go from 0 to 255"),
        ({"train": np.full((20, 4, 6), "a")}, "grey levels are fractions, or whole numbers"),
        ({"train": np.zeros((20, 4, 6)), "test": np.zeros((5, 6, 4))}, "not of one size"),
        ({"train": stripes(20), "test": stripes(5) / 255}, "some splits are of whole numbers and some of fractions"),
        ({"test": stripes(20)}, "has test: it may have train, valid, test, or one array alone"),
        ({"train": stripes(20), "labels": np.zeros(20)}, "has train, labels: it may have train, valid, test"),
        (
            {"images": np.zeros((20, 4, 6)), "labels": np.zeros(20)},
            "has images, labels: it may have train, valid, test, or one array alone",
        ),
    ],
)
def test_an_npz_that_is_not_images_is_refused_in_one_line(tmp_path, arrays, words):
    assert words in refusal(saved(tmp_path, **arrays))


def test_what_is_no_data_is_refused_in_one_line(tmp_path):
    assert "is neither an .npz file nor a folder of images" in refusal(tmp_path / "nothing.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    assert "cannot be read" in refusal(tmp_path / "broken.npz")
    assert "has no pictures" in refusal(tmp_path)
    saved(tmp_path, train=np.array([{"an": "object"}] * 20, dtype=object))
    assert "cannot be read (ValueError)" in refusal(tmp_path / "stripes.npz")  # it would have to be unpickled


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_named_by_their_rows_in_the_file(tmp_path, value):
    images = stripes(20, np.float64)
    images[[13, 19], 2, 3] = value  # 19 is held out
    path = saved(tmp_path, anything=images)
    end = "holds NaN, infinite or too large values in rows {} (the first is 0): correct these images or leave them out"
    assert refusal(path) == f"{path} {end.format('13, 19')}"
    path = saved(tmp_path, train=stripes(20, np.float64), test=images)
    assert refusal(path) == f"{path}, test {end.format('13, 19')}"
    path = saved(tmp_path, train=np.full((12, 4, 6), value))
    assert refusal(path) == f"{path} {end.format('0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more')}"


def test_a_folder_without_pictures_to_train_on_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    Image.fromarray(stripes(1)[0]).save(tmp_path / "test" / "0.png")
    assert refusal(tmp_path).endswith("has test and no train: call the folder to train on train")


MAY = "it may have pictures alone, or folders of pictures called train, valid and test"


@pytest.mark.parametrize(
    ("folders", "beside", "found"),
    [
        (["train", "val"], False, "train, val"),
        (["Test", "Train"], False, "Test, Train"),
        (["train"], True, "train, pictures"),
        (["cats", "dogs"], False, "cats, dogs"),
        (["sun"], True, "sun, pictures"),
        (list("gfedcba"), False, "a, b, c, d, e, and 2 more"),
    ],
)
def test_a_folder_of_which_a_part_would_be_ignored_is_refused(tmp_path, folders, beside, found):
    for name in folders:
        pictures(tmp_path / name)
    if beside:
        pictures(tmp_path)
    assert refusal(tmp_path) == f"{tmp_path} has {found}: {MAY}"


def test_folders_within_a_split_are_refused(tmp_path):
    for place in ("train", "test", "train/cats", "train/dogs"):
        pictures(tmp_path / place)
    assert (
        refusal(tmp_path) == f"{tmp_path / 'train'} has folders in it (cats, dogs): put their pictures beside its own"
    )


def test_what_holds_no_pictures_or_is_hidden_may_lie_beside_them(tmp_path):
    pictures(tmp_path, 10)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("no picture", encoding="utf-8")
    pictures(tmp_path / ".thumbnails")
    assert len(own_data.describe(tmp_path).read().train) == 9


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_a_picture_of_several_pages_or_frames_is_refused(tmp_path, suffix):
    first, *others = [Image.fromarray(image) for image in stripes(3)]
    first.save(tmp_path / f"0.{suffix}", save_all=True, append_images=others)
    words = "has 3 pages or frames: save each as a picture of its own"
    assert refusal(tmp_path) == f"{tmp_path / f'0.{suffix}'} {words}"


def test_the_preview_within_a_photograph_is_no_second_frame(tmp_path):
    """Cameras write JPEGs that hold a smaller copy of the picture besides."""
    photograph, preview = Image.new("L", (6, 4), 200), Image.new("L", (3, 2), 200)
    for number in range(10):
        photograph.save(tmp_path / f"{number}.jpg", format="MPO", save_all=True, append_images=[preview])
    assert own_data.describe(tmp_path).read().test.shape == (1, 24)


def test_pictures_of_more_than_bytes_are_refused_and_transparent_ones_are_on_white(tmp_path):
    Image.fromarray(stripes(1)[0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    assert refusal(tmp_path).endswith("deep.png has more than 8 bits per pixel: save it with 8")
    (tmp_path / "deep.png").unlink()
    clear = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    for number in range(10):
        clear.save(tmp_path / f"{number}.png")
    assert own_data.describe(tmp_path).read().test.eq(255).all()


def test_pictures_of_two_sizes_or_damaged_are_named(tmp_path):
    for number, image in enumerate(stripes(12)):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "07.png")
    assert refusal(tmp_path).endswith("07.png is not of the size of 00.png (6 x 4 and 4 x 6): resize them all alike")
    (tmp_path / "07.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert refusal(tmp_path).endswith(f"07.png {UNREADABLE}")


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A picture of that size, black as far as `chunks` have its pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *chunks, (b"IEND", b"")]
    written = [struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


BLACK = zlib.compress(bytes(4 * 7))  # the pixels of 6 x 4
HALVES = (b"IDAT", BLACK[:5]), (b"\x00DAT", BLACK[5:])  # the second of a name that is none


@pytest.mark.parametrize(
    "content",
    [png(20_000, 20_000), png(6, 4, *HALVES), png(6, 4), b"P5 4 x 255\n"],
    ids=["huge", "broken", "empty", "no number"],
)
def test_a_picture_that_is_huge_or_broken_is_named_whatever_is_raised(tmp_path, content):
    """PIL raises DecompressionBombError, SyntaxError, OSError, ValueError."""
    (tmp_path / "0.png").write_bytes(content)
    assert refusal(tmp_path) == f"{tmp_path / '0.png'} {UNREADABLE}"


def test_an_empty_path_is_refused():
    assert refusal("") == "the path is empty: name an .npz file or a folder of images"


def test_the_suffix_of_a_file_may_be_of_either_case(tmp_path):
    path = saved(tmp_path, train=stripes(20)).rename(tmp_path / "stripes.NPZ")
    assert own_data.describe(path).read().train.shape == (18, 24)


def test_one_scale_is_one_dataset_however_it_is_written(tmp_path):
    path = saved(tmp_path, train=stripes(20))
    plain = own_data.describe(path)
    for scale in (255, 255.0, np.int64(255), np.float32(255)):
        assert own_data.describe(path, scale=scale) == plain
        assert type(own_data.describe(path, scale=scale).scale) is float


@pytest.mark.parametrize(
    ("scale", "words"),
    [(np.inf, "scale must be finite and above 0, not inf"), (1e60, "divided by 1e+60 every pixel is 0")],
)
def test_a_scale_that_leaves_nothing_is_refused(tmp_path, scale, words):
    dataset = own_data.describe(saved(tmp_path, train=stripes(20)), scale=scale)
    with pytest.raises(ValueError, match=re.escape(words)):
        datasets.add(dataset)
    assert dataset.name not in DATASETS


@pytest.mark.parametrize("likelihood", [BERNOULLI, GAUSSIAN])
def test_values_outside_the_likelihoods_domain_are_refused(tmp_path, likelihood):
    path = saved(tmp_path, train=stripes(20, np.float32) * 4)
    dataset = own_data.describe(path, likelihood=likelihood)
    with pytest.raises(ValueError, match=r"^data from 0\.0 to 3\.0, but .*: divide by the largest grey$"):
        datasets.add(dataset)
    datasets.add(own_data.describe(path, likelihood=likelihood, scale=3.0))


def test_the_name_of_a_likelihood_is_refused_as_it_is_no_likelihood(tmp_path):
    path = saved(tmp_path, train=stripes(20))
    message = r"^'gaussian' is no likelihood: choose datasets.BERNOULLI or datasets.GAUSSIAN$"
    with pytest.raises(ValueError, match=message):
        own_data.describe(path, likelihood="gaussian")


def described(name="mine", shape=(4, 6), n_test=3, **fields) -> Dataset:
    pixels = torch.from_numpy(stripes(20)).flatten(1)
    splits = Splits(pixels, pixels[:0], pixels[:n_test], {})
    return Dataset(name, "Mine", lambda: splits, shape, BERNOULLI, **fields)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_in_a_value_written_by_hand_are_named_by_split(value):
    pixels = torch.from_numpy(stripes(20, np.float32)).flatten(1)
    test = pixels.clone()
    test[[3, 8], 5] = value
    dataset = dataclasses.replace(described(scale=1.0), read=lambda: Splits(pixels, pixels[:0], test, {}))
    message = r"^Mine: the test pixels are not finite for datapoints 3, 8: correct or remove them$"
    with pytest.raises(ValueError, match=message):
        datasets.add(dataset)
    assert "mine" not in DATASETS


def test_a_value_written_by_hand_is_checked_too():
    with pytest.raises(ValueError, match=r"\(20, 24\) are not rows of \(4, 5\) pixels"):
        datasets.add(described(shape=(4, 5)))
    with pytest.raises(ValueError, match="test must be 1 or more, not 0"):
        datasets.add(described(n_test=0))
    with pytest.raises(ValueError, match="scale must be finite and above 0, not nan"):
        datasets.add(described(scale=float("nan")))
    with pytest.raises(ValueError, match="another dataset is called 'mnist': give yours a name of its own"):
        datasets.add(described(name="mnist"))
    assert "mine" not in DATASETS


# training


@pytest.mark.parametrize("likelihood", [BERNOULLI, GAUSSIAN])
@each_algorithm
def test_every_algorithm_learns_it(tmp_path, noise, run, likelihood):
    """From dark to bright, which the weights of the start do not know."""
    dataset = own_data.describe(saved(tmp_path, train=noise), likelihood=likelihood)
    datasets.add(dataset)
    run = dataclasses.replace(run, dataset=dataset.name, batch_size=200, warm_up=10, step_sizes=(0.02,))
    before, images = Trainer(run, 0.02), datasets.load(dataset.name)
    measure = before.algorithm.measures[run.measure]
    start = measure(before.model, images, images.test, generator=torch.Generator().manual_seed(run.seed))
    after = fit(run, MEASURES[run.measure].start)
    assert after.curve[-1].test > start + 1


def test_a_step_does_not_look_at_fractions_once_their_range_is_known(tmp_path, monkeypatch, noise):
    """A look costs time, and on a GPU it would end a capture."""
    datasets.add(dataset := own_data.describe(saved(tmp_path, train=noise / 255)))
    trainer = Trainer(dataclasses.replace(RUN, dataset=dataset.name), 0.05)
    trainer.step()
    monkeypatch.setattr(torch, "aminmax", lambda *_: pytest.fail("the data were looked at"))
    trainer.step()
