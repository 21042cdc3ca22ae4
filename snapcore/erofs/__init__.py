"""EROFS images of a tree's metadata, written and read in Python.

The kernel mounts such an image together with the files that it points into, a layer's tar above
all: unpacked without being extracted.
"""

from snapcore.erofs.check import Checked as Checked
from snapcore.erofs.check import check_image as check_image
from snapcore.erofs.inode import Extent as Extent
from snapcore.erofs.inode import Inode as Inode
from snapcore.erofs.layer import ImageDirectory as ImageDirectory
from snapcore.erofs.layer import ImageLayer as ImageLayer
from snapcore.erofs.reader import Image as Image
from snapcore.erofs.types import ImageOptions as ImageOptions
from snapcore.erofs.types import ImageSummary as ImageSummary
from snapcore.erofs.types import Place as Place
from snapcore.erofs.writer import write_image as write_image
