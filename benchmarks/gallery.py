"""Draw an image for each preset: samples, their latents and decoded samples side by side.

  python benchmarks/gallery.py --out docs/images
  python benchmarks/gallery.py --presets conv-latent,rowwise --out /tmp/two

The samples are generated: discs, rings, boxes and crosses, in grey and in colour, and waves. Every preset is
fitted to a thousand of them, for at most a hundred epochs or three minutes; the images show other samples. A
preset whose image exists is not fitted again.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from benchmarks import commands
from training.quiet import import_tensorflow

import_tensorflow()

from training.config import FitConfig  # noqa: E402
from training.networks.architectures import build_autoencoder  # noqa: E402
from training.networks.corruption import corrupted_copy  # noqa: E402
from training.networks.fitting import fit_network, seed_everything  # noqa: E402
from training.pages import charts  # noqa: E402  (TensorFlow is quietened first)
from training.presets import PRESETS  # noqa: E402

N_TRAIN, N_VALIDATION, N_SHOWN = 1000, 200, 5
MOST_MINUTES = 3.0
MOST_EPOCHS = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the images that are missing."""
    parser = commands.parser(__doc__, out="folder of the images")
    parser.add_argument("--presets", type=commands.names_among(PRESETS), default=list(PRESETS))
    parser.add_argument("--epochs", type=int, default=MOST_EPOCHS, help="at most (default: 100)")
    arguments = parser.parse_args(argv)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns about one graph for each preset
    arguments.out.mkdir(parents=True, exist_ok=True)
    for preset in arguments.presets:
        path = arguments.out / f"{preset}.svg"
        if not path.exists():
            path.write_bytes(draw(preset, arguments.epochs))
        print(path, flush=True)
    return 0


def draw(preset: str, epochs: int) -> bytes:
    """Fit a preset and draw samples that it has not seen with their latents and decoded samples; SVG."""
    kind = next(kind for kind in ("image", "sequence", "vector") if kind in PRESETS[preset].kinds)
    samples = _samples(preset, kind)
    sample_shape = samples.shape[1:]
    config = FitConfig.from_preset(preset, {"kind": kind, "max_minutes": MOST_MINUTES})
    config = dataclasses.replace(config, epochs=min(config.epochs * 10, epochs), batch_size=32, patience=30)
    config = config.for_samples(sample_shape).for_training(sample_shape, N_TRAIN)
    offset, scale = _scaling(samples[:N_TRAIN], config)
    scaled = ((samples - offset) / scale).astype(np.float32)
    train, validation, shown = np.split(scaled, [N_TRAIN, N_TRAIN + N_VALIDATION])
    seed_everything(0)
    autoencoder, _ = fit_network(build_autoencoder(config, sample_shape), train, validation, config, [])
    inputs = _corrupted(config, shown)
    latents = autoencoder.encoder.predict(inputs, verbose=0)
    decoded = autoencoder.rebuild(inputs).numpy()
    originals, rebuilt = (_shown(values * scale + offset, kind) for values in (inputs, decoded))
    limits = (0.0, 1.0) if kind != "sequence" else (float(samples.min()), float(samples.max()))
    chart = charts.side_chart(originals, latents, rebuilt, [""] * N_SHOWN, limits, images=kind != "sequence")
    return charts.svg_of(chart)


def _corrupted(config: FitConfig, shown: np.ndarray) -> np.ndarray:
    """Corrupt the samples for a network that restores; return them unchanged for others."""
    restores = config.corrupt_validation or "denoise" in config.preset
    return corrupted_copy(shown, config) if restores else shown


def _scaling(train: np.ndarray, config: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and scale from values in [0, 1], or from waves, to the input of the network."""
    if config.scaled_range is None:
        spread = train.std(axis=0)
        return train.mean(axis=0), np.where(spread > 0, spread, 1)
    low, high = config.scaled_range
    return np.float64(-low / (high - low)), np.float64(1 / (high - low))


def _shown(values: np.ndarray, kind: str) -> np.ndarray:
    return values.reshape(-1, 28, 28) if kind == "vector" else values


def _samples(preset: str, kind: str) -> np.ndarray:
    count = N_TRAIN + N_VALIDATION + N_SHOWN
    if kind == "sequence":
        return _waves(count)
    if preset.startswith("conv-rgb"):
        return _shapes(count, side=32, colour=True)
    shapes = _shapes(count, side=28, colour=False)
    return shapes.reshape(count, -1) if kind == "vector" else shapes


def _shapes(count: int, side: int, *, colour: bool) -> np.ndarray:
    """Draw discs, rings, boxes and crosses: (count, side, side) or (count, side, side, 3), in [0, 1]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    y, x = rng.uniform(0.35 * side, 0.65 * side, size=(2, count, 1, 1))
    radius = rng.uniform(0.15 * side, 0.3 * side, size=(count, 1, 1))
    height, width = np.abs(rows - y), np.abs(columns - x)
    distance = np.hypot(height, width)
    # Distances to the outline in pixels, negative inside, give smooth edges.
    outlines = np.stack(
        [
            distance - radius,
            np.abs(distance - radius) - 1.5,
            np.maximum(height, width) - 0.8 * radius,
            np.maximum(np.minimum(height, width) - 1.5, np.maximum(height, width) - radius),
        ]
    )
    kinds = rng.integers(len(outlines), size=count)
    kinds[-N_SHOWN:] = np.arange(N_SHOWN) % len(outlines)  # one of each is shown
    chosen = outlines[kinds, np.arange(count)]
    shapes = np.clip(0.5 - chosen, 0, 1)
    if not colour:
        return shapes
    front, ground = rng.uniform(0.5, 1, size=(count, 1, 1, 3)), rng.uniform(0, 0.4, size=(count, 1, 1, 3))
    return ground + shapes[..., np.newaxis] * (front - ground)


def _waves(count: int) -> np.ndarray:
    """Draw windows of 64 steps: a wave of any phase and speed, its second harmonic, a little noise."""
    rng = np.random.default_rng(0)
    phase, speed, share = rng.uniform((0, 0.15, 0), (6.28, 0.3, 0.8), size=(count, 3)).T[..., np.newaxis]
    angle = phase + speed * np.arange(64)
    waves = np.sin(angle) + share * np.sin(2 * angle) + rng.normal(0, 0.05, size=(count, 64))
    return waves[..., np.newaxis]


if __name__ == "__main__":
    commands.run(main)
