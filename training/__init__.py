"""Make model folders: data in, a calibrated and published detector out. The only package that knows Keras.

Commands, each `python -m training.NAME`; the docstring of the module is its `--help`:

- `fit`: fit one model and publish it
- `sweep`: fit a small grid of models within a time budget and publish the best
- `finetune`: add a classifier to a published model, as its next version
- `evaluate`: print the figures of a published model on other data
- `latent`: draw the latent space of a published model

Below them, each level importing only lower ones (tests/test_boundaries.py):

- `stages`: the stages of `fit` and `sweep`, from a data set to a published folder
- `classifiers`: the stages of `finetune`
- `publishing`: from a fitted network to a calibrated model folder
- `pages`: report, model card and charts; `cli`: flags, progress, printed results
- `networks`: Keras autoencoders and their fit; `figures`: metrics, baselines, steps of a series
- `data`: from a path to samples that are split and scaled; `memories`: prototypes of normal samples
- `config`: every hyperparameter; `presets`, `flags`, `errors`, `quiet`

Rules: nothing here imports `service`. TensorFlow takes seconds to import, so commands import it, through
`quiet`, only once the data are read and split; `evaluate` and `latent` never do.
"""
