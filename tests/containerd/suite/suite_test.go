// containerd's own tests of a snapshotter, run against `snapcore serve` as containerd uses it.
package suite

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/pkg/dialer"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

var (
	python = flag.String("snapcore.python", "python3", "interpreter that runs snapcore")
	name   = flag.String("snapcore.snapshotter", "overlay", "snapshotter to serve")
)

func TestSnapshotter(t *testing.T) {
	testutil.RequiresRoot(t)
	testsuite.SnapshotterSuite(t, *name, serve)
}

// serve starts a server of its own for each test, and dials it as containerd dials a proxy plugin.
func serve(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	address := filepath.Join(root, "socket", "s")
	server := exec.Command(*python, "-m", "snapcore.cli", "--root", filepath.Join(root, "state"),
		"--snapshotter", *name, "serve", "--address", address)
	said, err := server.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(said)
	serves := false
	for !serves && lines.Scan() {
		serves = strings.HasPrefix(lines.Text(), "snapcore: serving ")
		if !serves {
			fmt.Fprintln(os.Stderr, root, lines.Text())
		}
	}
	if !serves {
		return nil, nil, fmt.Errorf("it does not serve: %w", server.Wait())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
			fmt.Fprintln(os.Stderr, root, lines.Text())
		}
	}()
	stop := func() error {
		server.Process.Signal(syscall.SIGTERM)
		<-drained
		return server.Wait()
	}
	connection, err := grpc.Dial(dialer.DialAddress(address), grpc.WithInsecure(),
		grpc.WithContextDialer(dialer.ContextDialer))
	if err != nil {
		stop()
		return nil, nil, err
	}
	cleanup := func() error {
		connection.Close()
		return stop()
	}
	// Any name must do: containerd sends the one that its configuration gives the plugin.
	return proxy.NewSnapshotter(api.NewSnapshotsClient(connection), "of-"+*name), cleanup, nil
}
