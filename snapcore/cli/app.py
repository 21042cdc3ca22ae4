"""The top command: its table of verbs."""

from __future__ import annotations

from typing import Final

import click

from snapcore.cli.lazy import Lazy, LazyVerbs

MEMBERS: Final = {
    "pull": Lazy("pull", "pull", "Pull an image from a registry and unpack it."),
    "push": Lazy("push", "push", "Push an image to a registry."),
    "images": Lazy("images", "images", "Work with the images of this node."),
    "snapshots": Lazy("snapshots", "snapshots", "Work with the snapshots of a snapshotter."),
    "content": Lazy("content", "content", "Work with the blobs of the content store."),
    "leases": Lazy("leases", "leases", "Work with leases: what they hold is not collected."),
    "gc": Lazy("gc", "gc", "Remove the blobs and snapshots that nothing needs."),
    "plugins": Lazy("plugins", "plugins", "Work with snapshotter plugins."),
    "serve": Lazy("serve", "serve", "Serve snapshotters to containerd."),
    "conformance": Lazy(
        "conformance", "conformance", "Check that a snapshotter does what the contract says."
    ),
    "doctor": Lazy("doctor", "doctor", "Say what this host can do, and why not the rest."),
    "config": Lazy("config_show", "config", "Work with the configuration."),
    "digest": Lazy("digest", "digest", "Print the canonical digest of a directory tree."),
    "completion": Lazy("completion", "completion", "Print a shell completion script."),
}

app = LazyVerbs(
    "snapcore",
    MEMBERS,
    help="Turn container images into mountable root filesystems.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(package_name="snapcore", message="%(prog)s %(version)s")(app)
