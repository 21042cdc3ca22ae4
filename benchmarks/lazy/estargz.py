"""The same image with eStargz layers, written by the Go library of stargz-snapshotter."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from benchmarks.image import Image
from benchmarks.programs import run, say
from snapcore.locks import held

_SOURCE: Final = Path(__file__).resolve().parents[2] / "plugins/fuse/tests/estargz/main.go"
_CHUNK_BYTES: Final = 4 << 20
_TOC_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
_GO: Final = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}


def estargz_layout(image: Image) -> Path:
    """Return the layout of the converted image, which is kept beside the original.

    Raises:
        Failed: Go or its stargz package is missing, or fails.
    """
    wanted = Path(image.layout).parent / "estargz"
    with held(f"{wanted}.lock", lambda: None):
        if not wanted.exists():
            partial = wanted.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _convert(image, partial)
            partial.rename(wanted)
    return wanted


def _convert(image: Image, target: Path) -> None:
    say(f"converting {image.name!r} to eStargz, once")
    blobs = target / "blobs/sha256"
    blobs.mkdir(parents=True)
    program = target / "convert"
    cache = {**_GO, "GOCACHE": str(target / "go-cache")}
    run("go", "build", "-o", str(program), str(_SOURCE), environment=cache)
    manifest = _document(image, image.manifest)
    config = _document(image, manifest["config"]["digest"])
    for number, layer in enumerate(manifest["layers"]):
        digest, toc, diff_id = _layer(program, image.blob(layer["digest"]), blobs)
        layer["digest"], layer["size"] = digest, _path(target, digest).stat().st_size
        layer.setdefault("annotations", {})[_TOC_DIGEST] = toc
        config["rootfs"]["diff_ids"][number] = diff_id
    manifest["config"] |= _put(blobs, config)
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **_put(blobs, manifest)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    shutil.rmtree(target / "go-cache")
    program.unlink()


def _layer(program: Path, blob: Path, blobs: Path) -> tuple[str, str, str]:
    plain, packed = blobs / "layer.tar", blobs / "layer.estargz"
    with gzip.open(blob, "rb") as source, plain.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    toc, diff_id = run(str(program), str(plain), str(packed), str(_CHUNK_BYTES)).split()
    plain.unlink()
    with packed.open("rb") as file:
        hexadecimal = hashlib.file_digest(file, "sha256").hexdigest()
    os.rename(packed, blobs / hexadecimal)
    return f"sha256:{hexadecimal}", toc, diff_id


def _put(blobs: Path, document: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(document).encode()
    hexadecimal = hashlib.sha256(data).hexdigest()
    (blobs / hexadecimal).write_bytes(data)
    return {"digest": f"sha256:{hexadecimal}", "size": len(data)}


def _document(image: Image, digest: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(image.blob(digest).read_bytes())
    return document


def _path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
