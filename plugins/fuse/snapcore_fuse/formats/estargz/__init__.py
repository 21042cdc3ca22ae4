"""eStargz: gzip members for each file, and a table of contents at the end of the blob."""

from snapcore_fuse.formats.estargz.index import EstargzIndex as EstargzIndex
from snapcore_fuse.formats.estargz.index import open_estargz as open_estargz
from snapcore_fuse.formats.estargz.toc import TOC_DIGEST as TOC_DIGEST
