"""Make model folders: data in, a calibrated and published detector out; the map is in README.md."""
