"""`weights.npz`: write a fitted autoencoder as plain arrays, and load it again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detector.engine.graphs import INPUT, relative_difference
from detector.files import GOLDEN_FILE, WEIGHTS_FILE
from detector.inference import Detector
from detector.manifest import Manifest
from training.config import FitConfig
from training.data.columns import ColumnLayout, network_shape
from training.data.scaling import Scaling
from training.errors import ConfigError, ExportError
from training.networks.architectures import Autoencoder, build_autoencoder, forget_penalties

# The loaded network runs in Keras and the published encoder in ONNX Runtime, whose rounding differs: in int8
# with four wide layers by 0.01 to 0.02.
TOLERANCES = {"none": 1e-4, "int8": 0.1}
_OFFSET, _SCALE, _FILL = "scaling_offset", "scaling_scale", "scaling_fill"


@dataclasses.dataclass(frozen=True)
class LoadedNetwork:
    """A published autoencoder, ready to be fitted further."""

    config: FitConfig
    scaling: Scaling
    autoencoder: Autoencoder


def weight_arrays(autoencoder: Autoencoder, scaling: Scaling) -> dict[str, np.ndarray]:
    """The content of `weights.npz`, float32: `encoder_0`, `decoder_0` ... in Keras' order; and scaling."""
    arrays = {_OFFSET: scaling.offset, _SCALE: scaling.scale}
    if scaling.layout is not None:
        arrays[_FILL] = scaling.fill
    for part in ("encoder", "decoder"):
        weights = getattr(autoencoder, part).get_weights()
        arrays |= {f"{part}_{position}": weight for position, weight in enumerate(weights)}
    return {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}


def load_network(folder: Path, detector: Detector) -> LoadedNetwork:
    """Build the autoencoder of a published folder and load its weights.

    Parameters
    ----------
    folder : Path
        A version folder.
    detector : Detector
        The same folder, loaded: its hashes have been checked.

    Raises
    ------
    ConfigError
        If the model has no encoder, or the folder has no weights that this release can build a network for.
    ExportError
        If the loaded encoder differs from `encoder.onnx`.
    """
    manifest = detector.manifest
    if manifest.latent_shape is None:
        raise ConfigError(
            f"model {manifest.name} version {manifest.version} has no latent and so no encoder to go on "
            "from: fit it again without --latent-dim 0"
        )
    if WEIGHTS_FILE not in manifest.files:
        raise ConfigError(
            f"model {manifest.name} version {manifest.version} has no {WEIGHTS_FILE}: fit it again with this "
            "release, which publishes the next version, and go on from that"
        )
    config = configuration_of(manifest)
    with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as stored:
        arrays = dict(stored)
    autoencoder = build_autoencoder(config, network_shape(manifest))
    for part in ("encoder", "decoder"):
        model = getattr(autoencoder, part)
        wanted = {f"{part}_{position}": weight.shape for position, weight in enumerate(model.weights)}
        found = {name: array.shape for name, array in arrays.items() if name.startswith(f"{part}_")}
        if found != wanted:
            raise ConfigError(f"{WEIGHTS_FILE} does not fit the {part} that the configuration describes")
        model.set_weights([arrays[name] for name in wanted])
    forget_penalties(autoencoder.encoder)
    scaling = Scaling(
        arrays[_OFFSET], arrays[_SCALE], layout=ColumnLayout.of(manifest), fill=arrays.get(_FILL)
    )
    loaded = LoadedNetwork(config, scaling, autoencoder)
    _check(loaded, folder, detector)
    return loaded


def configuration_of(manifest: Manifest) -> FitConfig:
    """The configuration that a model was fitted with.

    Raises
    ------
    ConfigError
        If it has fields that this release does not know.
    """
    stored = manifest.training.get("configuration")
    known = {field.name for field in dataclasses.fields(FitConfig)}
    if not isinstance(stored, Mapping) or not stored.keys() <= known:
        raise ConfigError(
            f"the configuration of model {manifest.name} version {manifest.version} is one of another release"
        )
    return FitConfig(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    )


def _check(loaded: LoadedNetwork, folder: Path, detector: Detector) -> None:
    """Compare the encoder with the published one on the golden samples."""
    with np.load(folder / GOLDEN_FILE, allow_pickle=False) as golden:
        samples = golden[INPUT]
    expected = detector.encode(samples)
    latent = loaded.autoencoder.encoder(loaded.scaling.apply(samples), training=False).numpy()
    difference = relative_difference(latent, expected, np.abs(expected).max())
    tolerance = TOLERANCES[loaded.config.quantize]
    if not difference <= tolerance:
        raise ExportError(
            f"the network made of {WEIGHTS_FILE} differs from the published encoder by {difference:.3g} "
            f"relative, at most {tolerance:g} is allowed"
        )
