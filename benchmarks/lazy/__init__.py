"""Starting a program of an image that is behind a slow link: `python -m benchmarks.lazy`."""
