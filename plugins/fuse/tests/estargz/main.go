// Command estargz writes a tar as eStargz by the library of stargz-snapshotter, for tests.
//
// Usage: estargz TAR BLOB CHUNK_SIZE [PRIORITIZED_FILE...]
//
// It prints the digest of the table of contents and the diff ID, verifies what it wrote, and
// fails if it cannot.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strconv"

	"github.com/containerd/stargz-snapshotter/estargz"
)

func section(path string) *io.SectionReader {
	file, err := os.Open(path)
	check(err)
	info, err := file.Stat()
	check(err)
	return io.NewSectionReader(file, 0, info.Size())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	chunk, err := strconv.Atoi(os.Args[3])
	check(err)
	options := []estargz.Option{estargz.WithChunkSize(chunk), estargz.WithCompressionLevel(6)}
	if len(os.Args) > 4 {
		options = append(options, estargz.WithPrioritizedFiles(os.Args[4:]))
	}
	blob, err := estargz.Build(section(os.Args[1]), options...)
	check(err)
	out, err := os.Create(os.Args[2])
	check(err)
	_, err = io.Copy(out, blob)
	check(err)
	check(blob.Close())
	check(out.Close())
	reader, err := estargz.Open(section(os.Args[2]))
	check(err)
	_, err = reader.VerifyTOC(blob.TOCDigest())
	check(err)
	fmt.Println(blob.TOCDigest(), blob.DiffID())
}
