"""Makes model folders: data in, a published and calibrated detector out. The only place that knows Keras."""
