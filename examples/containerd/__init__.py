"""The demonstration under containerd: `make demo-containerd`."""
