"""Memory autoencoders: prototypes of normal samples, and the Keras models that attend to them.

- `rows`, `windows`, `images`: fit a memory of rows, of a series, of images
- `patches`: small patches of images, compared in addition to whole images
- `prototypes`: choose prototypes and find the nearest; `whitening`: inverse roots of covariances
- `rows_keras`, `windows_keras`, `images_keras`: the networks of these memories, of the parts in `layers`

Only `layers` and the modules named `*_keras` import Keras. docs/decisions/0011, 0015 and 0016 give reasons.
"""
