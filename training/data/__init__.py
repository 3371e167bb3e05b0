"""From a file or a name to samples that are split and scaled; knows no Keras.

- `load`: a path or a built-in name -> `Dataset`, through `tables`, `categories`, `built_in`, `kinds`
- `dataset`: `Dataset`, the samples with labels, kind and origin
- `series`: `Timeline`, the times, entities and gaps of a series; `windowing`: cut a series into windows
- `splits`: train, validation, calibration, test; `trimming`: leave out lonely training samples
- `columns`: rows with categories and missing values -> columns of a network; `scaling`: raw -> scaled units
- `for_model`: read data the way a published model takes them
"""
