// Package teststack gives tests real servers: Postgres, an S3 server and
// Temporal. They are those of the file that WARPKET_TEST_STACK names (see
// command with), else of a devstack that the test process starts and that ends
// with it. Only tests import it.
package teststack

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/warpket/warpket/storage/blob"
)

// Variable names the environment variable with the path of a file that says
// where the servers are: Addresses as JSON.
const Variable = "WARPKET_TEST_STACK"

// startTime is how long a devstack may take to start, also on a busy machine
// that has to download Postgres first.
const startTime = 3 * time.Minute

// Temporal is the address of a Temporal server, host:port. Its namespaces are
// for the test to make, under names of their own.
func Temporal(t testing.TB) string {
	t.Helper()
	return addresses(t).Temporal
}

// S3 is a new bucket, for this test alone. It goes with the server.
func S3(t testing.TB) blob.Config {
	t.Helper()
	c := addresses(t).S3
	c.Bucket = "test-" + random()
	store, err := blob.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// addresses says where the servers are. It fails or skips the test when there
// are none.
func addresses(t testing.TB) Addresses {
	t.Helper()
	text, err := found()
	switch {
	case errors.Is(err, ErrNoBinary) && os.Getenv("CI") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	var a Addresses
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

var found = sync.OnceValues(func() ([]byte, error) {
	if path := os.Getenv(Variable); path != "" {
		return os.ReadFile(path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	s, err := Start(ctx) // not stopped: it ends with this process
	if err != nil {
		return nil, err
	}
	return s.Addresses, nil
})
