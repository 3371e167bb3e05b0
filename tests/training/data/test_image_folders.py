"""A folder of images becomes samples with splits, labels and masks; whatever is left out is noted."""

import numpy as np
import pytest
from PIL import Image

from detector.reading import Reading
from training.data.load import load_dataset
from training.errors import DataError

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)
RGB = np.repeat(GREY[..., None], 3, axis=2) + np.array([0, 50, 100], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Write images, or other contents, by their paths; return the folder."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / "parts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, np.ndarray):
                Image.fromarray(content).save(path)
            else:
                path.write_bytes(content)
        return str(tmp_path / "parts")

    return write


def test_sub_folders_are_labels(folder):
    """Images are read in the order of their paths."""
    dataset = load_dataset(
        folder({"good/a.png": GREY, "good/b.bmp": GREY, "scratch/c.tif": GREY}), normal_label="good"
    )

    assert dataset.sample_shape == (4, 6)
    assert dataset.is_anomaly.tolist() == [False, False, True]
    assert [dataset.place(row) for row in range(3)] == ["good/a.png", "good/b.bmp", "scratch/c.tif"]


def test_a_folder_without_sub_folders_has_no_labels(folder):
    """A folder of good parts is a data set; `images` says nothing of its content."""
    for files in ({"0.png": RGB, "1.png": RGB}, {"images/0.png": RGB, "images/1.png": RGB}):
        dataset = load_dataset(folder(files))

        assert dataset.sample_shape == (4, 6, 3)
        assert dataset.labels is None
        assert dataset.value_range == (0.0, 255.0)


def test_images_beside_sub_folders_are_refused(folder):
    """Images without a label would all count as normal."""
    with pytest.raises(DataError, match=r"got top\.png and scratch/a\.png"):
        load_dataset(folder({"top.png": GREY, "scratch/a.png": GREY}))


def test_folders_called_like_images_are_no_images(folder, tmp_path):
    """Only files are read."""
    path = folder({"a.png": GREY})
    (tmp_path / "parts" / "folder.png").mkdir()

    assert load_dataset(path).samples.shape == (1, 4, 6)


HIDDEN = (
    "good/._1.png",
    ".thumbs/1.png",
    "__MACOSX/good/1.png",
    "good/Thumbs.db",
    ".DS_Store",
    "desktop.ini",
)


def test_files_of_the_system_are_skipped_and_others_counted(folder):
    """A Mac's zip brings broken images that nobody sees."""
    files = {"good/1.png": GREY, "good/2.png": GREY, "notes.txt": b"", "good/3.gif": b"", "good/4.gif": b""}

    dataset = load_dataset(folder(files | dict.fromkeys(HIDDEN, b"no image")))

    assert dataset.files == ("good/1.png", "good/2.png")
    assert dataset.notes == ("files of parts that are no images are left out: 2 .gif, 1 .txt",)


def test_a_folder_without_images_says_what_it_holds(folder):
    """Pictures of a telephone may have a format that is not read."""
    with pytest.raises(DataError, match=r"holds no \.png.*\.webp file, its other files are 2 \.heic"):
        load_dataset(folder({"1.heic": b"", "2.HEIC": b""}))


MVTEC = {
    **{f"train/good/{number:03}.png": GREY for number in range(3)},
    "test/good/000.png": GREY,
    "test/scratch/000.png": GREY,
    "test/scratch/001.png": GREY,
    "ground_truth/scratch/000_mask.png": (GREY > 20).astype(np.uint8) * 255,
    "ground_truth/scratch/001_mask.png": (GREY < 2).astype(np.uint8),
    "readme.txt": b"",
}
LOCO = {
    "train/good/000.png": GREY,
    "validation/good/000.png": GREY,
    "test/good/000.png": GREY,
    "test/scratch/000.png": GREY,
    "test/scratch/001.png": GREY,
    "ground_truth/scratch/000/000.png": (GREY > 21).astype(np.uint8),
    "ground_truth/scratch/000/001.png": (GREY == 21).astype(np.uint8),
    "ground_truth/scratch/001/000.png": (GREY < 2).astype(np.uint8),
}
INSIDE = {
    "Train/good/a.png": GREY,
    "Train/masks/good/a.png": GREY,
    "Test/images/good/a.png": GREY,
    "Test/images/scratch/b.png": GREY,
    "Test/images/scratch/c.png": GREY,
    "Test/Masks/scratch/b.png": (GREY > 20).astype(np.uint8) * 255,
    "Test/Masks/scratch/c.png": (GREY < 2).astype(np.uint8) * 255,
}


@pytest.mark.parametrize(
    "files", [MVTEC, {f"tile/{name}": image for name, image in MVTEC.items()}, LOCO, INSIDE]
)
@pytest.mark.parametrize("normal_label", [None, "good"])
def test_splits_labels_and_masks_of_benchmarks_are_known(folder, files, normal_label):
    """The test split is held out, the only label of the training split is normal, masks are no samples."""
    dataset = load_dataset(folder(files), normal_label=normal_label)

    assert dataset.held_out[-3:].all()
    assert not dataset.held_out[:-3].any()
    assert dataset.normal_label == "good"
    assert dataset.is_anomaly.tolist() == [False] * (len(dataset.samples) - 2) + [True, True]
    masks = dataset.masks_of(np.flatnonzero(dataset.held_out))
    np.testing.assert_array_equal(masks[1], GREY > 20)
    np.testing.assert_array_equal(masks[2], GREY < 2)
    assert sorted(masks) == [1, 2]


def test_validation_images_are_the_test_split_if_there_is_no_other(folder):
    """Keras' tutorials have train and val only; with a test split they join the training images."""
    files = {"train/cat/1.png": GREY, "train/dog/1.png": GREY, "val/cat/2.png": GREY, "val/dog/2.png": GREY}
    alone = load_dataset(folder(files), normal_label="cat")
    joined = load_dataset(folder({"test/dog/3.png": GREY}), normal_label="cat")

    assert alone.files == ("train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png")
    assert alone.held_out.tolist() == [False, False, True, True]
    assert alone.is_anomaly.tolist() == [False, True, False, True]
    assert "the validation images are the test split" in alone.notes[0]
    assert joined.held_out.tolist() == [False] * 4 + [True]
    assert "the validation images join the training split" in joined.notes[0]


@pytest.mark.parametrize("names", [("good", "test"), ("valid", "broken")])
def test_a_folder_called_like_a_split_may_be_a_label(folder, names):
    """Without a training split beside it, it is one label among others."""
    dataset = load_dataset(folder({f"{name}/{number}.png": GREY for name in names for number in "12"}))

    assert not dataset.held_out.any()
    assert set(dataset.labels) == set(names)


def test_images_beside_splits_are_counted(folder):
    """A montage is no sample."""
    files = {"train/good/1.png": GREY, "test/good/1.png": GREY, "montage.png": RGB, "extra/1.png": RGB}

    dataset = load_dataset(folder(files))

    assert dataset.files == ("train/good/1.png", "test/good/1.png")
    assert dataset.notes[0] == "2 images of parts beside the splits are left out"


def test_training_images_without_a_label_are_normal(folder):
    """The test split alone tells good from bad."""
    files = {"train/1.png": GREY, "train/2.png": GREY, "test/ok/1.png": GREY, "test/nok/1.png": GREY}

    dataset = load_dataset(folder(files), normal_label="ok")

    assert dataset.is_anomaly.tolist() == [False, False, True, False]
    assert dataset.labels.tolist() == ["ok", "ok", "nok", "ok"]


def test_test_images_without_a_label_are_left_out(folder):
    """Nothing can be measured with them."""
    files = {"train/cat/1.png": GREY, "train/dog/1.png": GREY, "test/1.png": GREY, "test/2.png": GREY}

    dataset = load_dataset(folder(files), normal_label="cat")

    assert dataset.files == ("train/cat/1.png", "train/dog/1.png")
    assert dataset.notes == ("2 test images without a label are left out",)


def test_several_data_sets_in_one_folder_are_refused(folder):
    """Bottles and cables are not one kind of thing."""
    files = {
        f"{name}/{split}/good/1.png": GREY for name in ("bottle", "cable") for split in ("train", "test")
    }

    with pytest.raises(
        DataError, match=r"'bottle', 'cable': give one of them, such as --data .*parts/bottle$"
    ):
        load_dataset(folder(files))


def test_masks_say_which_images_are_anomalies_if_no_label_does(folder):
    """An empty mask is the mask of a normal image."""
    files = {"images/1.png": GREY, "images/2.png": GREY, "images/3.png": GREY}
    masks = {"masks/1.png": GREY > 5, "masks/2.png": GREY > 100}

    dataset = load_dataset(folder(files | masks))

    assert dataset.is_anomaly.tolist() == [True, False, False]
    assert "images whose mask marks a pixel are anomalies" in dataset.notes[0]


def test_a_mask_may_lie_beside_its_image(folder):
    """`7_GT.png` belongs to `7.png`; another image may end so, too."""
    files = {"a/7.png": GREY, "a/7_GT.png": GREY > 3, "b/7.png": GREY, "b/8_mask.png": GREY}

    dataset = load_dataset(folder(files), normal_label="b")

    assert dataset.files == ("a/7.png", "b/7.png", "b/8_mask.png")
    assert sorted(dataset.masks) == [0]


def test_masks_without_an_image_are_counted(folder):
    """A mask that was renamed is not lost without a word."""
    lost = {"ground_truth/scratch/999_mask.png": GREY}

    dataset = load_dataset(folder(MVTEC | lost))

    assert "1 of 3 masks belong to no image of the test split" in dataset.notes


def test_every_broken_image_is_named_at_once(folder):
    """Nobody wants to hear of 500 images one by one."""
    few = {"1.png": GREY, "2.png": b"no image", "3.png": GREY, "4.png": b""}
    with pytest.raises(DataError) as caught:
        load_dataset(folder(few))

    assert str(caught.value) == (
        "2 of 4 images cannot be used: 2.png: the image is no PNG, JPEG, BMP, TIFF or WebP that can be read; "
        "4.png: the image is no PNG, JPEG, BMP, TIFF or WebP that can be read"
    )
    with pytest.raises(DataError, match=r"^22 of 24 images .*; and 12 more$"):
        load_dataset(folder({f"many/../{number}.png": b"no image" for number in range(10, 30)}))


def test_several_sizes_are_counted_by_size_and_mode(folder):
    """Nothing is resized without being asked for, and the sentence says how."""
    files = {"1.png": GREY, "2.png": GREY, "3.png": RGB, "4.png": GREY.T, "5.png": RGB[:2]}

    with pytest.raises(DataError) as caught:
        load_dataset(folder(files))

    assert str(caught.value) == (
        "images must have one size, got 3 sizes (height x width): 2 of 4 x 6 grey, 1 of 4 x 6 RGB, "
        "1 of 6 x 4 grey, 1 of 2 x 6 RGB; bring all to one with --resize 4,6"
    )


def test_images_are_resized_if_asked_for(folder):
    """The decision is recorded for those who score later images; masks keep every mark."""
    large = np.kron(GREY, np.ones((20, 20), np.uint8))
    mark = np.zeros(large.shape, np.uint8)
    mark[30, 50] = 1
    files = {"train/good/1.png": GREY, "test/bad/2.png": large, "ground_truth/bad/2_mask.png": mark}

    dataset = load_dataset(folder(files), reading=Reading(resize=(4, 6)))

    assert dataset.reading.resize == (4, 6)
    np.testing.assert_array_equal(dataset.samples[0], GREY)
    np.testing.assert_allclose(dataset.samples[1], GREY, atol=4)
    assert np.argwhere(dataset.masks[1]).tolist() == [[1, 2]]
    assert "are brought to 4 x 6 pixels" in dataset.notes[-1]


def test_resize_is_for_folders(tmp_path):
    """An array has the size that it has."""
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 4), np.uint8))

    with pytest.raises(DataError, match="--resize is only for a folder of images"):
        load_dataset(str(tmp_path / "x.npy"), reading=Reading(resize=(4, 6)))


def test_grey_and_coloured_images_are_read_as_they_look(folder):
    """Grey ones get three equal channels, with a note."""
    dataset = load_dataset(folder({"1.png": GREY, "2.png": RGB, "3.png": GREY.astype(np.uint16) * 257}))

    np.testing.assert_array_equal(dataset.samples[0], np.repeat(GREY[..., None], 3, axis=2))
    np.testing.assert_array_equal(dataset.samples[1], RGB)
    np.testing.assert_array_equal(dataset.samples[2], dataset.samples[0])
    assert dataset.notes == ("1 grey and 1 RGB and 1 16-bit grey images are all read as RGB",)


def test_grey_of_16_bits_keeps_its_levels(folder):
    """8 bits among them are stretched; dark images are named, since cameras often have 12 bits."""
    deep = np.arange(4000, 4024, dtype=np.uint16).reshape(4, 6)

    dataset = load_dataset(folder({"1.png": deep, "2.tif": deep}))

    np.testing.assert_array_equal(dataset.samples, np.stack([deep, deep]))
    assert dataset.value_range == (0.0, 65535.0)
    assert "their largest value is 4023, and white is 65535" in dataset.notes[0]
    mixed = load_dataset(folder({"3.png": np.full((4, 6), 255, np.uint8)}))
    np.testing.assert_array_equal(mixed.samples[2], np.full((4, 6), 65535))


def test_masks_must_be_as_large_as_their_images(folder):
    """A mask of another size would mark the wrong pixels."""
    files = MVTEC | {"ground_truth/scratch/000_mask.png": GREY.T, "ground_truth/scratch/001_mask.png": b"x"}

    with pytest.raises(DataError) as caught:
        load_dataset(folder(files))

    assert "2 of 2 masks cannot be used" in str(caught.value)
    assert "000_mask.png: the mask must be as large as its image, (4, 6), got (6, 4)" in str(caught.value)
