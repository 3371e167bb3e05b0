"""Report, model card and latent page; knows no Keras.

- `report`: `report.json`, `report.html` and the card; `render`: Jinja templates
- `charts`: Matplotlib charts as `data:` URIs
- `latent_plane`: latent vectors on a plane, convex hulls, points inside and far from them
"""
