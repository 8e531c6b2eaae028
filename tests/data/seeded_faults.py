"""Functions that each put one kind of fault into the dataset of `drawn_scenes`.

Each function changes files, and returns the file or class that a check must name.
"""

import io
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from tests.data.drawn_scenes import (
    CLASSES,
    SIZE,
    change_all_images,
    change_all_masks,
    change_mask,
    colored,
    image_path,
    last_val_image,
    mask_path,
    read_pixels,
    scene,
)


def twelve_bits(root: Path) -> str:
    def write(pixels: np.ndarray, path: Path) -> None:
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 16).save(path)

    return change_all_images(root, write)


def signed(root: Path, number: int = 5) -> str:
    """Values as CT scans have them."""
    path = root / "images" / "train" / f"{number:03d}.png"
    values = read_pixels(path)[..., 0].astype(np.int32) * 8 - 1000
    Image.fromarray(values).save(path.with_suffix(".tif"))
    path.unlink()
    return f"images/train/{number:03d}.tif"


def blank(root: Path, grey: int, noise: int) -> None:
    """Tiles without data in both splits; equal ones, or with noise of so many levels."""
    rng = np.random.default_rng(0)
    for path in sorted((root / "images").rglob("*.png"))[::4]:
        tile = grey + rng.integers(-noise, noise + 1, (*SIZE, 3))
        Image.fromarray(tile.clip(0, 255).astype(np.uint8)).save(path)


def other_suffix(root: Path) -> str:
    (root / "images/train/photo.heic").write_bytes(b"ftypheic")
    return "images/train/photo.heic"


def infrared(root: Path) -> str:
    """A fourth band of data that the file calls opacity, as GDAL writes it."""

    def write(pixels: np.ndarray, path: Path) -> None:
        band = np.clip(pixels[::-1, :, :1], 1, 254)
        Image.fromarray(np.concatenate([pixels, band], 2)).save(path)

    return change_all_images(root, write)


def stack(root: Path) -> str:
    def write(pixels: np.ndarray, path: Path) -> None:
        pages = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
        pages[0].save(path, save_all=True, append_images=pages[1:])

    return change_all_images(root, write)


def four_bands(root: Path) -> str:
    """Four bands of which nothing says which are red, green and blue."""

    def write(pixels: np.ndarray, path: Path) -> None:
        height, width = pixels.shape[:2]
        layout = {"height": height, "width": width, "count": 4, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK", **layout) as file:
            file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 3]
            for band, plane in enumerate([*pixels.transpose(2, 0, 1), pixels[..., 0]], 1):
                file.write(plane, band)

    return change_all_images(root, write)


def unreadable(root: Path, number: int = 5) -> str:
    image_path(root, number).write_bytes(b"<html>not found</html>")
    return f"images/train/{number:03d}.png"


def truncated(root: Path, number: int = 5) -> str:
    buffer = io.BytesIO()
    large = Image.fromarray(scene(number)[0]).resize((160, 120))
    large.save(buffer, "JPEG", quality=95)
    image_path(root, number).unlink()
    image_path(root, number).with_suffix(".jpg").write_bytes(buffer.getvalue()[:-400])
    return f"images/train/{number:03d}.jpg"


def bomb(root: Path, number: int = 5) -> str:
    Image.new("1", (20_000, 12_000)).save(image_path(root, number))
    return f"images/train/{number:03d}.png"


def broken_mask(root: Path, number: int = 5) -> str:
    data = mask_path(root, number).read_bytes()
    mask_path(root, number).write_bytes(data[: len(data) // 2])
    return f"masks/train/{number:03d}.png"


def other_size(root: Path, number: int = 5) -> str:
    change_mask(root, number, lambda mask: mask[:, :70])
    return f"images/train/{number:03d}.png"


def exif(root: Path, number: int = 5) -> str:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(scene(number)[0]).save(image_path(root, number), exif=tags)
    return f"images/train/{number:03d}.png"


def unknown(root: Path, number: int = 5) -> str:
    def change(mask: np.ndarray) -> np.ndarray:
        mask[:3, :5] = 77
        return mask

    return change_mask(root, number, change)


def deep(root: Path, number: int = 5) -> str:
    def change(mask: np.ndarray) -> np.ndarray:
        mask = mask.astype(np.uint16)
        mask[:3, :5] = 1000
        return mask

    return change_mask(root, number, change)


def bright_car(mask: np.ndarray) -> np.ndarray:
    return (mask == 1).astype(np.uint8) * 255


def zero_255(root: Path) -> str:
    return change_all_masks(root, bright_car)


def one_zero_255(root: Path, number: int = 5) -> str:
    return change_mask(root, number, bright_car)


def in_opacity(root: Path) -> str:
    """White masks whose alpha channel is the object."""

    def change(mask: np.ndarray) -> np.ndarray:
        white = np.full((*mask.shape, 4), 255, np.uint8)
        white[..., 3] = bright_car(mask)
        return white

    return change_all_masks(root, change)


def second_mask(root: Path, number: int = 5) -> str:
    mask = Image.open(mask_path(root, number))
    mask.save(mask_path(root, number).with_suffix(".tif"))
    return f"masks/train/{number:03d}.tif"


def preview(root: Path, number: int = 5) -> str:
    picture = Image.fromarray(colored(read_pixels(mask_path(root, number))))
    picture.save(mask_path(root, number).with_suffix(".jpg"))
    return f"masks/train/{number:03d}.jpg"


def palette(root: Path, number: int = 5) -> str:
    """Colours as the classes have them, indices of another tool."""
    mask = read_pixels(mask_path(root, number))
    indexed = Image.fromarray(np.array([2, 0, 1], np.uint8)[mask], "P")
    indexed.putpalette([*CLASSES[1]["color"], *CLASSES[2]["color"], *CLASSES[0]["color"]])
    indexed.save(mask_path(root, number))
    return f"masks/train/{number:03d}.png"


def own_palettes(root: Path, number: int = 5) -> str:
    """Palettes that number colours by how often they occur, as an export for each file does."""
    for path in (root / "masks").rglob("*.png"):
        order = [1, 0, 2] if path == mask_path(root, number) else [0, 1, 2]
        indexed = Image.fromarray(np.argsort(order).astype(np.uint8)[read_pixels(path)], "P")
        colors = [(9, 9, 9), (200, 30, 40), (50, 60, 70)]
        indexed.putpalette([level for place in order for level in colors[place]])
        indexed.save(path)
    return f"masks/train/{number:03d}.png"


def rgb(root: Path, number: int = 5) -> str:
    return change_mask(root, number, colored)


def every_rgb(root: Path) -> str:
    return change_all_masks(root, colored)


def resized(pixels: np.ndarray) -> np.ndarray:
    """The pixels after a smaller size, with interpolation."""
    small = cv2.resize(pixels, (40, 30), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


def antialiased(root: Path, number: int = 5) -> str:
    """Ids 0, 2 and 4: the values in between are no class next to the border."""
    return change_mask(root, number, lambda mask: resized(mask * 2))


def antialiased_colors(root: Path, number: int = 5) -> str:
    return change_mask(root, number, lambda mask: resized(colored(mask)))


def thin_lines(root: Path) -> str:
    """A class of lines of one pixel around the others, as interpolation between 0 and 2 leaves."""

    def change(mask: np.ndarray) -> np.ndarray:
        inside = cv2.erode((mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
        return np.where(mask > 0, 1, 0).astype(np.uint8) + inside

    return change_all_masks(root, change)


def jpeg(root: Path, number: int = 5) -> str:
    pixels = colored(read_pixels(mask_path(root, number)))
    mask_path(root, number).unlink()
    Image.fromarray(pixels).save(mask_path(root, number).with_suffix(".jpg"), quality=90)
    return f"masks/train/{number:03d}.jpg"


def off_by_one(root: Path) -> str:
    return change_all_masks(root, lambda mask: mask + 1)


def no_mask(root: Path, number: int = 5) -> str:
    mask_path(root, number).unlink()
    return f"images/train/{number:03d}.png"


def no_image(root: Path, number: int = 5) -> str:
    image_path(root, number).unlink()
    return f"masks/train/{number:03d}.png"


def twins(root: Path, number: int = 5) -> str:
    Image.fromarray(scene(number)[0]).save(image_path(root, number).with_suffix(".jpg"))
    return f"images/train/{number:03d}.jpg"


def rename_pair(root: Path, number: int, image: str, mask: str) -> str:
    image_path(root, number).rename(image_path(root, number).with_name(image))
    mask_path(root, number).rename(mask_path(root, number).with_name(mask))
    return f"images/train/{image}"


def case(root: Path, number: int = 5) -> str:
    return rename_pair(root, number, f"Frame_{number}.png", f"frame_{number}.png")


def unicode(root: Path, number: int = 5) -> str:
    name = "Straße_é.png"
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    for path in (image_path(root, number), mask_path(root, number)):
        shutil.copy(path, path.with_name(decomposed))
    return rename_pair(root, number, composed, composed)


def same(root: Path, number: int = 5) -> str:
    shutil.copy(last_val_image(root), image_path(root, number))
    return f"images/train/{number:03d}.png"


def nearly_same(root: Path, number: int = 5) -> str:
    image_path(root, number).unlink()
    target = image_path(root, number).with_suffix(".jpg")
    Image.open(last_val_image(root, 2)).save(target, quality=60)
    return f"images/train/{number:03d}.jpg"


def mirrored(root: Path, number: int = 5) -> str:
    image = read_pixels(last_val_image(root, 3))[:, ::-1]
    Image.fromarray(image).save(image_path(root, number))
    return f"images/train/{number:03d}.png"


def clear_class(path: Path, value: int) -> None:
    """Make a class background in one mask."""
    mask = read_pixels(path)
    mask[mask == value] = 0
    Image.fromarray(mask).save(path)


def empty(root: Path) -> str:
    for path in (root / "masks").rglob("*.png"):
        clear_class(path, 1)
    return "car"


def rare(root: Path) -> str:
    for path in sorted((root / "masks" / "train").glob("*.png"))[1:]:
        clear_class(path, 2)
    return "tree"


def absent(root: Path) -> str:
    for path in (root / "masks" / "val").glob("*.png"):
        clear_class(path, 2)
    return "tree"


def tiny(root: Path) -> str:
    def change(mask: np.ndarray) -> np.ndarray:
        mask[mask == 2] = 0
        mask[10:16, 10:16] = 2
        return mask

    change_all_masks(root, change)
    return "tree"


def pool_splits(root: Path) -> tuple[list[str], list[str]]:
    """Move both splits into one folder; return the names of train and of val."""
    names = []
    for split in ("train", "val"):
        names.append(sorted(path.name for path in (root / "images" / split).iterdir()))
        for kind in ("images", "masks"):
            for path in (root / kind / split).iterdir():
                path.rename(root / kind / path.name)
            (root / kind / split).rmdir()
    return names[0], names[1]


def write_lists(root: Path, train: list[str], val: list[str]) -> None:
    for split, names in (("train", train), ("val", val)):
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")


def foreign(root: Path) -> str:
    train, val = pool_splits(root)
    write_lists(root, [f"/home/somebody/data/images/{name}" for name in train], val)
    return "train.txt"


def overlap(root: Path) -> str:
    train, val = pool_splits(root)
    write_lists(root, [*train, val[0]], val)
    return "images/024.png"


def no_such_entry(root: Path) -> str:
    train, val = pool_splits(root)
    write_lists(root, [*train, "gone.png"], val)
    return "train.txt"
